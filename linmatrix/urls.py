"""Where requests go: the federation API, and the console."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("_matrix/key/v2/", include("keys.urls")),
    path("_matrix/federation/", include("federation.urls")),
    path("admin/", admin.site.urls),
]
handler404 = "federation.errors.not_found"
handler500 = "federation.errors.server_error"
