"""What an API over HTTP is made of: endpoints, their description, a server."""
