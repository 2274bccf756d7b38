"""The MLS groups of encrypted rooms, and what became of their last commits."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

_STANDINGS = [
    ("first", "followed since its first commit"),
    ("later", "taken from a later commit and followed since"),
    ("lost", "not known: waits for a commit that carries the group's tree"),
]
_VERDICTS = [
    ("accepted", "Accepted"),
    ("refused", "Refused"),
    ("not checked", "in the line, but the group before it is not known"),
]
_FINDINGS = [
    ("edit", "content does not match its hash"),
    ("replay", "an LPDU was used twice"),
    ("fork", "an event does not follow the last one"),
    ("equivocation", "history other than what was sent before"),
    ("rejected", "an event that the authorization rules refuse"),
    ("citation", "auth events other than the current ones"),
    ("state", "state in the answer to a join that does not hold"),
    ("invalid", "an event in the line that is none"),
    ("unverifiable", "an event in the line whose keys cannot be had"),
    ("gap", "history that the hub does not give"),
    ("commit", "an MLS commit that the group or the room does not allow"),
]


class Migration(migrations.Migration):
    dependencies = [("rooms", "0005_rooms_of_a_user")]

    operations = [
        migrations.AlterField(
            model_name="finding",
            name="kind",
            field=models.TextField(choices=_FINDINGS),
        ),
        migrations.CreateModel(
            name="MlsGroup",
            fields=[
                (
                    "room",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="mls_group",
                        serialize=False,
                        to="rooms.room",
                    ),
                ),
                ("standing", models.TextField(choices=_STANDINGS)),
                ("epoch", models.BigIntegerField(db_comment="of the group in state; 0 where there is none")),
                ("digest", models.BinaryField(db_comment="names the group in state; empty where there is none")),
                (
                    "state",
                    models.BinaryField(
                        db_comment="the group as a public observer keeps it; empty where it was never known"
                    ),
                ),
                ("devices", models.IntegerField(db_comment="members of the group")),
                ("event_id", models.TextField(db_comment="the commit that led here, or that lost it")),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "MLS group",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("standing__in", ["first", "later", "lost"])), name="group_standing_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("devices__gte", 0), ("epoch__gte", 0)), name="group_counts_from_zero"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("standing", "lost"),
                            models.Q(("digest", b""), ("state", b""), _negated=True),
                            _connector="OR",
                        ),
                        name="group_has_a_state",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="MlsCommit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "event_id",
                    models.TextField(
                        blank=True, db_comment="of a refused one the LPDU's id; empty for one of our own users"
                    ),
                ),
                ("sender", models.TextField()),
                (
                    "epoch",
                    models.BigIntegerField(
                        db_comment="that the commit ends; NULL when it could not be read", null=True
                    ),
                ),
                (
                    "added",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), db_comment="devices, the first of them", default=list, size=None
                    ),
                ),
                (
                    "removed",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), db_comment="devices, the first of them", default=list, size=None
                    ),
                ),
                ("verdict", models.TextField(choices=_VERDICTS)),
                ("reason", models.TextField(blank=True, db_comment="why it was not accepted", default="")),
                ("at", models.DateTimeField()),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mls_commits",
                        to="rooms.room",
                    ),
                ),
            ],
            options={
                "verbose_name": "MLS commit",
                "indexes": [models.Index(fields=["room", "-id"], name="commit_newest")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("verdict__in", ["accepted", "refused", "not checked"])),
                        name="commit_verdict_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE rooms_mlsgroup ALTER COLUMN state SET STORAGE EXTERNAL",  # keys and hashes: nothing to compress
            migrations.RunSQL.noop,
        ),
    ]
