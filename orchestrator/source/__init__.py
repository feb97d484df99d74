"""The commit in a folder, its runtime, its Dockerfile."""
