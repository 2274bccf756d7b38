"""What `manage.py doctor` looks at: this server from inside, from outside as a peer comes to it, and one peer."""
