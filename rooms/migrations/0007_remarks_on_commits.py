"""A commit that was accepted may have a remark, too."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("rooms", "0006_mls_groups"),
    ]

    operations = [
        migrations.AlterField(
            model_name="mlscommit",
            name="reason",
            field=models.TextField(
                blank=True, db_comment="why it was not accepted, or what it left undone", default=""
            ),
        ),
    ]
