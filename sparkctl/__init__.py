"""The command line. It knows the services by their contract alone."""
