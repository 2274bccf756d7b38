"""The API document: what this server offers to other servers, as OpenAPI 3.1.

`manage.py spectacular` writes it; where LINMATRIX_API_DOCUMENT is set, `/openapi.json` serves it, and `/openapi` shows
it to people. Routes and methods are taken from the views that exist; what goes in and comes out stands in `operations`,
its parts in `components`.
"""
