"""What strangers may send: files and requests that no honest program makes."""
