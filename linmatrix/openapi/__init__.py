"""The API document: what this server offers to other servers, as OpenAPI 3.1.

`manage.py spectacular` writes it, and `/openapi.json` serves it where LINMATRIX_API_DOCUMENT is set. Routes and methods
are taken from the views that exist; what goes in and comes out stands in `operations`, its parts in `components`.
"""
