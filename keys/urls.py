"""Routes of the app, below /_matrix/key/v2/."""

from django.urls import path

from keys.views import ServerKeysView

urlpatterns = [
    path("server", ServerKeysView.as_view()),
]
