"""More that a participant finds out about its hub, and what an event follows that is passed over in the line."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rooms", "0002_redactions_and_invites")]

    operations = [
        migrations.AddField(
            model_name="finding",
            name="predecessor",
            field=models.TextField(
                blank=True,
                db_comment="of an event that is passed over in the line: the one before it",
                default="",
            ),
        ),
        migrations.AlterField(
            model_name="finding",
            name="evidence",
            field=models.TextField(db_comment="why it is wrong, and from the second line on the events as a JSON list"),
        ),
        migrations.AlterField(
            model_name="finding",
            name="kind",
            field=models.TextField(
                choices=[
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
                ]
            ),
        ),
    ]
