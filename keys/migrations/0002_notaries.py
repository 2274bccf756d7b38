"""What notaries say of other servers' keys, kept beside what these servers say themselves; permissions for operators."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="keyresponse",
            name="notary",
            field=models.TextField(
                blank=True, db_comment="who passed it on; empty: the server itself sent it", default=""
            ),
        ),
        migrations.AddField(
            model_name="serverkey",
            name="notary",
            field=models.TextField(blank=True, db_comment="who vouches for it; empty: the server itself", default=""),
        ),
        migrations.RemoveConstraint(model_name="serverkey", name="key_once"),
        migrations.AddConstraint(
            model_name="serverkey",
            constraint=models.UniqueConstraint(
                fields=("server", "key_id", "public_key", "notary"), name="key_once_per_source"
            ),
        ),
        migrations.AddConstraint(
            model_name="serverkey",
            constraint=models.CheckConstraint(
                condition=models.Q(("current", False), ("notary", ""), _connector="OR"),
                name="key_of_a_notary_is_not_current",
            ),
        ),
        migrations.AlterModelOptions(
            name="serverkey",
            options={
                "permissions": [
                    ("rotate_signing_key", "Can let a new key sign for this server"),
                    ("refetch_keys", "Can ask servers for their keys again"),
                ]
            },
        ),
    ]
