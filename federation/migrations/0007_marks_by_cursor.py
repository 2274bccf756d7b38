"""Device list updates in stored transactions are noted by their cursors' rows, and no longer by their users.

A pair that ceased to share a room and shares one again has another row, which an update from before says nothing of.
"""

from django.db import migrations, models

# A pair that shares no room any more has no cursor: 0 is none's.
_BY_CURSOR = """
    UPDATE federation_outboundtransaction sent SET edus = (
        SELECT jsonb_agg(
            CASE WHEN jsonb_typeof(mark -> 0) = 'string' THEN jsonb_build_array(COALESCE((
                SELECT cursor.id FROM federation_devicelistcursor cursor
                WHERE cursor.destination_id = sent.destination_id AND cursor.user_id = mark ->> 0
            ), 0), mark -> 1) ELSE mark END ORDER BY place
        ) FROM jsonb_array_elements(sent.edus) WITH ORDINALITY AS marked (mark, place)
    ) WHERE edus <> '[]'
"""


class Migration(migrations.Migration):
    dependencies = [
        ("federation", "0006_edus"),
    ]

    operations = [
        migrations.AlterField(
            model_name="outboundtransaction",
            name="edus",
            field=models.JSONField(
                db_comment="of each EDU in the body: id of the outbound EDU, or [cursor, position] of a device list update",
                db_default=models.Value([], models.JSONField()),
                default=list,
            ),
        ),
        migrations.RunSQL(_BY_CURSOR, migrations.RunSQL.noop),
    ]
