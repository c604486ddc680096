"""HTTP beside GraphQL: transfers of files, and errors as responses."""
