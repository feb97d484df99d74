"""How supervisor, worker, command and successor talk to each other."""
