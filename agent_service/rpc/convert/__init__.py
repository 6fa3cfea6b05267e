"""Between protobuf and the domain: all field checks of the contract, no I/O. Protobuf stops here."""
