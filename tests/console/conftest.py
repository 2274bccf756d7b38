"""What all tests of the console begin with."""

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def console(client: Client) -> Client:
    """An operator who may do everything is logged in."""
    client.force_login(User.objects.create_superuser("operator"))
    return client
