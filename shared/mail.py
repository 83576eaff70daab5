"""What every e-mail of ours looks like, whoever carries it."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.addresses import is_email
from shared.channel import OutboundMessage, PermanentFailure

# Carried by every server, also by those that do not know 8BITMIME.
_POLICY = SMTP.clone(cte_type="7bit")


class MailSettings(BaseSettings):
    """Whom e-mails come from."""

    model_config = SettingsConfigDict(env_prefix="EMAIL_")

    sender: str = Field(
        default="",
        description="Whom e-mails come from, such as `Scenarios <no-reply@example.com>`; needed to send any.",
    )

    @field_validator("sender")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if value and not (is_email(address) and address.isascii() and value.isprintable()):
            message = "must be an e-mail address in ASCII, with or without a name before it"
            raise ValueError(message)
        return value

    @property
    def address(self) -> str:
        """The sender's address without the name."""
        return parseaddr(self.sender)[1]


def build_mail(message: OutboundMessage, *, sender: str) -> bytes:
    """Return the message as it is put on the wire: headers and body, lines ended by CR LF.

    It is the same at every attempt, so that whoever gets it twice can tell by its `Message-ID`.

    Raises:
        PermanentFailure: The address or the subject cannot stand in a header.
    """
    name, own_address = parseaddr(sender)
    local_part, _, domain = own_address.rpartition("@")
    recipient = to_ascii_domain(message.address)
    mail = EmailMessage(policy=_POLICY if recipient.isascii() else _POLICY.clone(utf8=True))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["Date"] = format_datetime(message.created_at)
    mail["From"] = Address(name, local_part, domain)
    mail["To"] = recipient
    mail["Subject"] = _one_line(message.content.subject)
    # RFC 3834: no reply of a machine, such as that its owner is on holiday, is wanted.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.content.text)
    if message.content.html is not None:
        mail.add_alternative(message.content.html, subtype="html")
    return _unsubscribe_headers(message.unsubscribe_url) + mail.as_bytes()


def to_ascii_domain(address: str) -> str:
    """Return the address with its domain as the name service knows it, so that most need no server that knows UTF-8.

    Raises:
        PermanentFailure: There can be no such domain.
    """
    local_part, _, domain = address.rpartition("@")
    try:
        return f"{local_part}@{domain.encode('idna').decode()}"
    except UnicodeError as error:
        message = "The domain of the address is none."
        raise PermanentFailure(message, address_gone=True) from error


def _one_line(subject: str) -> str:
    if not subject.isprintable():
        message = "The subject holds a line break or another control character."
        raise PermanentFailure(message)
    return subject


def _unsubscribe_headers(url: str | None) -> bytes:
    """Return the headers by which one click unsubscribes (RFC 8058).

    They are written by hand: `EmailMessage` would encode a long URL as if it were a text, and no reader would know it.
    """
    if url is None:
        return b""
    return f"List-Unsubscribe: <{url}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode("ascii")
