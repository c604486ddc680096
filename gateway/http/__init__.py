"""HTTP beside GraphQL: transfers of files."""
