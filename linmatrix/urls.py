"""Where requests go: the federation API, and the console."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from linmatrix import monitoring
from linmatrix.openapi.document import ApiDocument
from linmatrix.openapi.page import api_page, api_script
from linmatrix.well_known import WellKnownServerView

admin.site.site_header = "linmatrix"
admin.site.site_url = None
admin.site.site_title = "linmatrix"
admin.site.index_title = settings.SERVER_NAME

urlpatterns = [
    path("_matrix/key/v2/", include("keys.urls")),
    path("_matrix/federation/", include("federation.urls")),
    path(".well-known/matrix/server", WellKnownServerView.as_view(), name="well_known"),
    path("openapi.json", ApiDocument.as_view(), name="api_document"),
    path("openapi", api_page, name="api_document"),
    path("openapi/redoc.js", api_script, name="api_document"),
    path("metrics", monitoring.view, name="metrics"),
    path("health/live", monitoring.view, name="health"),
    path("health/ready", monitoring.view, name="health"),
    path("admin/room/", include("linmatrix.console.rooms.urls")),
    path("admin/", admin.site.urls),
]
handler400 = "federation.errors.bad_request"
handler404 = "federation.errors.not_found"
handler500 = "federation.errors.server_error"
