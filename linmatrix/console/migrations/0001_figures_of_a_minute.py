"""What the dashboard's plots are drawn from."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Minute",
            fields=[
                ("begins", models.DateTimeField(primary_key=True, serialize=False)),
                (
                    "accepted",
                    models.IntegerField(db_comment="events that became part of a room, redacted copies too", default=0),
                ),
                ("redacted", models.IntegerField(db_comment="of those, as their redacted copies", default=0)),
                ("soft_failed", models.IntegerField(default=0)),
                ("rejected", models.IntegerField(default=0)),
                ("delivered", models.IntegerField(db_comment="events that other servers acknowledged", default=0)),
                (
                    "half_within_ms",
                    models.IntegerField(
                        db_comment="of acknowledged transactions, half took at most that long from being made; "
                        "NULL: none",
                        null=True,
                    ),
                ),
                ("most_within_ms", models.IntegerField(db_comment="19 of 20 took at most that long", null=True)),
                ("findings", models.IntegerField(default=0)),
                ("waiting", models.IntegerField(db_comment="servers that something waits for", null=True)),
                (
                    "failing",
                    models.IntegerField(db_comment="servers that were not reached at the last attempt", null=True),
                ),
                (
                    "oldest_seconds",
                    models.FloatField(db_comment="age of the oldest event that waits; 0: none does", null=True),
                ),
            ],
            options={"db_table_comment": "figures of the console's dashboard", "default_permissions": []},
        ),
    ]
