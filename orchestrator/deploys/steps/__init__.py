"""The steps of a deploy, one file each: what it does, and how that is undone."""
