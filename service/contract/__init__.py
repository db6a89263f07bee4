"""What more than one folder speaks: signatures, the catalog, calls and answers."""
