"""Letters: each sent once, to a real mail server in whatever mood, or into a folder."""

import asyncio
import ssl
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import IPv4Address
from pathlib import Path

import aiosmtplib
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from activities.notifications import models
from activities.notifications.mailer import SEND_TIMEOUT_SECONDS, FileMailer, SmtpMailer, SmtpServer, create_mailer
from activities.notifications.service import NotificationsService
from contracts.errors import AddressRefused, ServiceUnavailable
from contracts.notifications import WelcomeEmail
from tests.activities.conftest import Clock
from tests.mail_server import running_mail_server, silent_server
from worker.dev.ports import free_port
from worker.error_classification import classify
from worker.settings import WorkerSettings
from workflows.options import EXTERNAL

SENDER = "ADX <hello@adx.example>"
WELCOME = WelcomeEmail(
    key="user-onboarding-1:send_welcome_email",
    email="grace@example.com",
    name="Grace Hopper",
    tenant_name="Acme",
    workspace_url="/acme/workspaces/wsp_1",
)


APP_URL = "https://adx.example/app/"


def service_at(url: str, clock: Clock, app_url: str = APP_URL) -> NotificationsService:
    return NotificationsService(SmtpMailer(SmtpServer.parse(url)), SENDER, app_url, clock)


def texts(letter: EmailMessage) -> tuple[str, str]:
    """Plain and HTML."""
    plain, page = letter.get_body(("plain",)), letter.get_body(("html",))
    assert plain is not None
    assert page is not None
    return plain.get_content(), page.get_content()


def is_worth_more_tries(error: BaseException) -> bool:
    error_class = classify(error)
    return error_class.retry is EXTERNAL and isinstance(error_class.final_error, ServiceUnavailable)


async def test_welcome_email_names_tenant_and_workspace(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        await service_at(server.url, clock).send_welcome_email(WELCOME)

    (letter,) = server.emails
    assert server.recipients == ["grace@example.com"]
    assert (letter["From"], letter["To"]) == (SENDER, "Grace Hopper <grace@example.com>")
    assert letter["Subject"] == "Welcome to Acme"
    assert letter["Message-ID"].endswith("@adx.example>")
    assert letter["Date"].datetime == clock.now
    for text in texts(letter):
        assert "Hello Grace Hopper," in text
        assert "grace@example.com" in text
        assert "https://adx.example/app/acme/workspaces/wsp_1" in text
    assert '<a href="https://adx.example/app/acme/workspaces/wsp_1">' in texts(letter)[1]


async def test_email_without_an_absolute_url_contains_no_link(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        await service_at(server.url, clock, app_url="").send_welcome_email(WELCOME)

    assert not any("wsp_1" in text for text in texts(server.emails[0]))


async def test_email_is_sent_once_by_repeated_steps(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        service = service_at(server.url, clock)
        for _ in range(3):
            await service.send_welcome_email(WELCOME)
        await service.send_welcome_email(WELCOME.model_copy(update={"key": "user-onboarding-2:send_welcome_email"}))

    assert len({letter["Message-ID"] for letter in server.emails}) == len(server.emails) == 2
    noted = await models.EmailDelivery.get(key=WELCOME.key)
    assert (noted.message_id, noted.delivered_at) == (server.emails[0]["Message-ID"], clock.now)


async def test_no_personal_data_of_an_email_is_stored(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        await service_at(server.url, clock).send_welcome_email(WELCOME)

    kept = str(await models.EmailDelivery.all().values())
    assert not any(word in kept for word in ("grace", "Grace", "Acme", "wsp_1"))


async def test_repeated_email_has_the_same_message_id(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        server.dropped_acknowledgements = 1
        service = service_at(server.url, clock)
        with pytest.raises(aiosmtplib.SMTPException) as error_class:
            await service.send_welcome_email(WELCOME)
        for _ in range(2):
            await service.send_welcome_email(WELCOME)

    assert is_worth_more_tries(error_class.value)
    first, second = server.emails
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


@pytest.mark.parametrize("mood", ["rcpt", "data"])
async def test_temporary_refusal_can_be_retried(any_database: None, clock: Clock, mood: str) -> None:
    async with running_mail_server() as server:
        answers = server.rcpt_responses if mood == "rcpt" else server.data_responses
        answers.extend(["451 4.7.1 Greylisted, come again", "452 4.3.1 Disk full"])
        service = service_at(server.url, clock)
        for _ in range(2):
            with pytest.raises(aiosmtplib.SMTPException) as error_class:
                await service.send_welcome_email(WELCOME)
            assert is_worth_more_tries(error_class.value)
        await service.send_welcome_email(WELCOME)

    assert len(server.emails) == 1


async def test_permanent_refusal_of_an_address_is_final(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        server.rcpt_responses.append("550 5.1.1 Nobody here by that name")
        with pytest.raises(AddressRefused):
            await service_at(server.url, clock).send_welcome_email(WELCOME)

    assert await models.EmailDelivery.all().count() == 0


@pytest.mark.parametrize("address", ["a,b@example.com", "<a@example.com", "a@[1", "", "grace@exam\tple.com"])
async def test_invalid_address_is_final(any_database: None, clock: Clock, address: str) -> None:
    async with running_mail_server() as server:
        with pytest.raises(AddressRefused):
            await service_at(server.url, clock).send_welcome_email(WELCOME.model_copy(update={"email": address}))

    assert server.emails == []


async def test_names_are_escaped_and_may_contain_any_characters(any_database: None, clock: Clock) -> None:
    name = 'Zoë "<b>" O\'Brien, 愛'
    async with running_mail_server() as server:
        await service_at(server.url, clock).send_welcome_email(WELCOME.model_copy(update={"name": name}))

    (letter,) = server.emails
    assert letter["To"].addresses[0].display_name == name
    plain, page = texts(letter)
    assert name in plain
    assert "<b>" not in page


@pytest.mark.parametrize("has_smtputf8", [True, False])
async def test_non_ascii_domain_is_sent_in_ascii_form(any_database: None, clock: Clock, has_smtputf8: bool) -> None:
    async with running_mail_server(smtputf8=has_smtputf8) as server:
        await service_at(server.url, clock).send_welcome_email(WELCOME.model_copy(update={"email": "x@straße.example"}))

    assert server.recipients == ["x@xn--strae-oqa.example"]
    assert server.emails[0]["To"] == "Grace Hopper <x@xn--strae-oqa.example>"
    assert all("x@straße.example" in text for text in texts(server.emails[0]))


async def test_non_ascii_local_part_is_refused_without_smtputf8(any_database: None, clock: Clock) -> None:
    async with running_mail_server(smtputf8=False) as server:
        with pytest.raises(AddressRefused):
            await service_at(server.url, clock).send_welcome_email(
                WELCOME.model_copy(update={"email": "zoë@example.com"})
            )

    assert server.emails == []


async def test_address_may_contain_non_ascii_characters(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        await service_at(server.url, clock).send_welcome_email(WELCOME.model_copy(update={"email": "zoë@exämple.com"}))

    assert server.recipients == ["zoë@exämple.com"]


async def test_connection_failure_is_retryable(any_database: None, clock: Clock) -> None:
    with pytest.raises(aiosmtplib.SMTPException) as error_class:
        await service_at(f"smtp://127.0.0.1:{free_port('127.0.0.1')}", clock).send_welcome_email(WELCOME)

    assert is_worth_more_tries(error_class.value)


async def test_unknown_host_is_retryable(any_database: None, clock: Clock) -> None:
    with pytest.raises(aiosmtplib.SMTPException) as error_class:
        await service_at("smtp://mail.invalid:2525", clock).send_welcome_email(WELCOME)

    assert is_worth_more_tries(error_class.value)


async def test_silent_server_times_out() -> None:
    async with silent_server() as port:
        mail = SmtpMailer(SmtpServer.parse(f"smtp://127.0.0.1:{port}"), timeout_seconds=0.2)
        async with asyncio.timeout(5):
            with pytest.raises(aiosmtplib.SMTPException) as error_class:
                await mail.send(a_letter())

    assert is_worth_more_tries(error_class.value)


async def test_connection_is_closed_after_a_timeout() -> None:
    is_lost = asyncio.Event()

    class Silent(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            is_lost.set()

    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        port = server.sockets[0].getsockname()[1]
        mail = SmtpMailer(SmtpServer.parse(f"smtp://127.0.0.1:{port}"), timeout_seconds=0.2)
        with pytest.raises(aiosmtplib.SMTPException):
            await mail.send(a_letter())
        await is_lost.wait()


async def test_missing_reply_to_quit_delays_at_most_two_seconds() -> None:
    """It has taken the letter, so this is no failure."""

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._transport = transport
            transport.write(b"220 mail.test\r\n")

        def data_received(self, data: bytes) -> None:
            if data.startswith(b"DATA"):
                self._transport.write(b"354 go on\r\n")
            elif not data.startswith(b"QUIT"):
                self._transport.write(b"250 OK\r\n")

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        await SmtpMailer(SmtpServer.parse(f"smtp://127.0.0.1:{port}")).send(a_letter())
        assert 1.9 < time.monotonic() - began < 5


def test_send_timeout_is_twenty_seconds() -> None:
    assert SEND_TIMEOUT_SECONDS == 20


def a_letter() -> EmailMessage:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Message-ID"] = SENDER, "grace@example.com", "<1@adx.example>"
    letter.set_content("Hello.")
    return letter


class Tls:
    """A certificate of our own: what a server shows, and who trusts it."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.test")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = folder / "mail.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        self.shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.shown.load_cert_chain(pem)
        self.trusting = ssl.create_default_context(cafile=str(pem))


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


async def test_password_is_sent_after_starttls(tls: Tls) -> None:
    async with running_mail_server(tls=tls.shown) as server:
        url = server.url.replace("//", "//adx:p%40ss@")
        await SmtpMailer(SmtpServer.parse(url), tls=tls.trusting).send(a_letter())

    assert server.logins == [(b"adx", b"p@ss")]
    assert len(server.emails) == 1


async def test_password_is_sent_over_implicit_tls(tls: Tls) -> None:
    async with running_mail_server(tls=tls.shown, implicit_tls=True) as server:
        url = server.url.replace("smtp://", "smtps://adx:secret@")
        await SmtpMailer(SmtpServer.parse(url), tls=tls.trusting).send(a_letter())

    assert server.logins == [(b"adx", b"secret")]
    assert len(server.emails) == 1


async def test_password_is_never_sent_unencrypted() -> None:
    async with running_mail_server() as server:
        with pytest.raises(aiosmtplib.SMTPException):
            await SmtpMailer(SmtpServer.parse(server.url.replace("//", "//adx:secret@"))).send(a_letter())

    assert (server.logins, server.emails) == ([], [])


async def test_server_with_an_untrusted_certificate_receives_nothing(tls: Tls) -> None:
    async with running_mail_server(tls=tls.shown, implicit_tls=True) as server:
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await SmtpMailer(SmtpServer.parse(server.url.replace("smtp:", "smtps:"))).send(a_letter())

    assert server.emails == []


async def test_without_a_server_emails_are_private_files(any_database: None, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mail"
    service = NotificationsService(create_mailer(None, folder), SENDER, APP_URL, clock)
    await service.send_welcome_email(WELCOME)
    await service.send_welcome_email(WELCOME)

    (file,) = folder.iterdir()
    assert file.suffix == ".eml"
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    letter = message_from_bytes(file.read_bytes(), policy=default)
    assert letter["To"] == "Grace Hopper <grace@example.com>"


async def test_repeated_email_replaces_its_file(tmp_path: Path) -> None:
    for _ in range(2):
        await FileMailer(tmp_path).send(a_letter())

    assert names_in(tmp_path) == ["1.eml"]


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_smtp_url_is_parsed() -> None:
    assert SmtpServer.parse("smtp://mail.example") == SmtpServer("mail.example", None, encrypted=False)
    assert SmtpServer.parse("smtps://a%40b:c%2Fd@mail.example:4650") == SmtpServer(
        "mail.example", 4650, encrypted=True, user="a@b", password="c/d"
    )
    assert "c/d" not in repr(SmtpServer.parse("smtps://a:c%2Fd@mail.example"))
    assert isinstance(create_mailer("smtp://mail.example", Path()), SmtpMailer)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://",
        "smtp://h:99999",
        "smtp://u:se/cret@h",
        "smtp://h/x",
        "smtp://h?x",
    ],
)
def test_invalid_smtp_url_is_rejected(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WorkerSettings(database_url="sqlite://x", service_key="k" * 32, smtp_url=url)

    (error,) = refused.value.errors(include_url=False)
    assert error["loc"] == ("smtp_url",)
    assert error["msg"] == "Value error, Write smtp://user:password@host:port, or smtps:// for TLS from the start."


async def test_concurrent_attempts_record_one_delivery(any_database: None, clock: Clock) -> None:
    async with running_mail_server() as server:
        service = service_at(server.url, clock)
        await asyncio.gather(service.send_welcome_email(WELCOME), service.send_welcome_email(WELCOME))

    assert await models.EmailDelivery.all().count() == 1
    assert len({letter["Message-ID"] for letter in server.emails}) == 1
