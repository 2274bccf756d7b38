"""Other servers' keys."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="KeyFetch",
            fields=[
                ("server", models.TextField(primary_key=True, serialize=False)),
                (
                    "asked_at",
                    models.DateTimeField(blank=True, db_comment="when the last request began, or ended", null=True),
                ),
                (
                    "lease_until",
                    models.DateTimeField(blank=True, db_comment="a request is under way until then at most", null=True),
                ),
                ("failures", models.IntegerField(db_comment="failed requests since the last usable answer", default=0)),
                ("last_error", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name_plural": "key fetches",
            },
        ),
        migrations.CreateModel(
            name="KeyResponse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("server", models.TextField()),
                ("json", models.TextField(db_comment="canonical JSON, which its signatures are about")),
                ("fetched_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["server"], name="key_response_by_server")],
            },
        ),
        migrations.CreateModel(
            name="ServerKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("server", models.TextField()),
                ("key_id", models.TextField()),
                ("public_key", models.BinaryField(max_length=32)),
                (
                    "valid_until_ts",
                    models.BigIntegerField(db_comment="ms; the lesser of what was published and a week from fetching"),
                ),
                (
                    "expired_ts",
                    models.BigIntegerField(blank=True, db_comment="ms; set for a key under old_verify_keys", null=True),
                ),
                (
                    "current",
                    models.BooleanField(db_comment="whether the last answer of the server listed it under verify_keys"),
                ),
                ("fetched_at", models.DateTimeField(db_comment="when an answer last listed it")),
                (
                    "response",
                    models.ForeignKey(
                        db_comment="the last answer that listed it",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="keys",
                        to="keys.keyresponse",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("server", "key_id", "public_key"), name="key_once"),
                    models.UniqueConstraint(
                        condition=models.Q(("current", True)),
                        fields=("server", "key_id"),
                        name="key_one_current_per_id",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("current", False), ("expired_ts__isnull", True), _connector="OR"),
                        name="key_current_is_not_expired",
                    ),
                ],
            },
        ),
    ]
