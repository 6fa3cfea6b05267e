"""The door: the gRPC server, its services, and the way from protobuf to the domain and back."""
