"""Routes of the app, below /_matrix/key/v2/.

The server name is matched percent-encoded, as it stood in the request (decision 70).
"""

from django.urls import re_path

from keys.views import BulkQueryView, QueryView, ServerKeysView

urlpatterns = [
    re_path(r"^server\Z", ServerKeysView.as_view(), name="key_server"),
    re_path(r"^query/(?P<server_name>[^/]+)\Z", QueryView.as_view(), name="key_query"),
    re_path(r"^query\Z", BulkQueryView.as_view(), name="key_queries"),
]
