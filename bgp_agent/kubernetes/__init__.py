"""The Kubernetes API, as far as it is read: lists that become watches, and never forget because nothing was heard."""
