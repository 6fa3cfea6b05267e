"""Services of other people's making, small ones: how to live with agents from the outside."""
