"""An alert as a message of Slack, and Slack's errors as sentences. Pure: https://api.slack.com/methods/chat.postMessage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import Urgency

if TYPE_CHECKING:
    from tbot_core.contracts import Alert

LONGEST_TEXT: Final = 3_500
_STORED: Final = "`tbot secrets edit alert` stores another one."
_TOKEN: Final = f"The bot token is not accepted: {_STORED}"
_WEBHOOK: Final = f"The webhook is gone or switched off: make one in the Slack app, Incoming Webhooks; {_STORED}"
_CHANNEL: Final = "Check the field `channel` with `tbot secrets edit alert`: an id such as C0123456789 always works."
_ADMIN: Final = "An administrator of the workspace has to allow posts of apps in this channel, or choose another one."
_REMEDIES: Final = {
    **dict.fromkeys(("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"), _TOKEN),
    **dict.fromkeys(("no_service", "no_service_id", "no_active_hooks", "no_team", "team_disabled"), _WEBHOOK),
    "invalid_token": _WEBHOOK,
    "channel_not_found": _CHANNEL,
    "not_in_channel": "Invite the bot into the channel: write `/invite @NAME-OF-THE-BOT` there.",
    "is_archived": f"The channel is archived. {_CHANNEL}",
    "channel_is_archived": "The webhook's channel is archived: restore it, or make a webhook for another channel.",
    "missing_scope": "Give the bot the scope chat:write (Slack app, OAuth & Permissions), then install the app again.",
    **dict.fromkeys(("restricted_action", "action_prohibited", "posting_to_general_channel_denied"), _ADMIN),
}
UNCLEAR: Final = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout", "rollup_error"})
EMPTY: Final = frozenset({"no_text", "invalid_payload", "missing_text_or_fallback_or_attachments"})
LIMITED: Final = frozenset({"ratelimited", "rate_limited"})


def compose_message(alert: Alert) -> dict[str, Any]:
    """The fields that a webhook and a bot share. Nothing in the text is formatting, a mention or a link preview."""
    text = alert.text if alert.text.startswith(alert.title) else f"{alert.title}\n{alert.text}"
    sign = ":white_check_mark: " if alert.resolved else ":rotating_light: " if alert.urgency is Urgency.CRITICAL else ""
    return {"text": f"{sign}{escape(_cut(text))}", "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def escape(words: str) -> str:
    """Slack reads `&`, `<` and `>` as its own marks: `<!channel>` would notify everybody."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def refusal(error: str) -> str:
    """What to do after an error of Slack's."""
    return _REMEDIES.get(error, "Slack's documentation of chat.postMessage explains this error.")


def _cut(words: str) -> str:
    whole = words.encode(errors="replace").decode()
    return whole if len(whole) <= LONGEST_TEXT else f"{whole[: LONGEST_TEXT - 3]}..."
