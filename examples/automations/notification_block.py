"""Saves a notification block that posts to a web hook and prints its id: ``python notification_block.py URL``.

Blocks for Slack, Teams, e-mail and others are made in the Prefect UI under Blocks; their ids serve as well.
"""

from __future__ import annotations

import sys

from prefect.blocks.notifications import CustomWebhookNotificationBlock

block = CustomWebhookNotificationBlock(name="kilroy", url=sys.argv[1], json_data={"subject": "{{subject}}", "text": "{{body}}"})
print(block.save("kilroy-notifications", overwrite=True))
