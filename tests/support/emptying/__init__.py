"""A Django app of the tests' settings whose `flush` empties the database faster than Django's own."""
