"""Finding the rooms of a user, to know with which servers they share one; built without holding up who writes."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("rooms", "0004_indexes_for_the_console")]

    operations = [
        AddIndexConcurrently(
            model_name="stateentry",
            index=models.Index(
                condition=models.Q(("replaced_at__isnull", True), ("type", "m.room.member")),
                fields=["state_key", "room"],
                include=["event"],
                name="state_rooms_of_user",
            ),
        ),
    ]
