"""Examples of client input by kind: accepted values with their stored form, and refused values with the message."""

# ruff: noqa: RUF001 - ambiguous letters are part of the test

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
MFA = "mutation ($input: SubmitMfaCodeInput!) { submitMfaCode(input: $input) { operation { id } } }"
ONBOARD = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { id status } } }"
PREFER = "mutation ($input: UpdatePreferencesInput!) { updatePreferences(input: $input) { preferences { language } } }"
UPLOAD = "mutation ($input: CreateUploadInput!) { createUpload(input: $input) { upload { id } } }"
PROCESS = "mutation ($input: ProcessFileInput!) { processFile(input: $input) { operation { id } } }"

NEW_USER = {"email": "kay@example.com", "name": "Kay", "password": "long enough"}
FILE = {"name": "a.txt", "contentType": "text/plain", "size": 3}
EMPTY = "This must not be empty."


def control(code_point: str) -> str:
    """Return the message about a control character."""
    return f"This must not contain control characters ({code_point})."


def separator(code_point: str) -> str:
    """Return the message about a line or paragraph separator."""
    return f"This must not contain line or paragraph separators ({code_point})."


def direction(code_point: str) -> str:
    """Return the message about a character that overrides the direction of text."""
    return f"This must not change the direction of the text around it ({code_point})."


def invisible(code_point: str) -> str:
    """Return the message about an invisible character in an e-mail address."""
    return f"An e-mail address must not contain invisible characters ({code_point})."


NAMES = {
    "Zoë": "Zoë",
    "  Ada\t\n": "Ada",
    "\u3000山田\u3000太郎\u00a0": "山田\u3000太郎",
    "Screenshot 10.15.07\u202fAM": "Screenshot 10.15.07\u202fAM",
    "می\u200cخواهم": "می\u200cخواهم",
    "👩\u200d👩\u200d👧": "👩\u200d👩\u200d👧",
    "Ada\u00a0King": "Ada\u00a0King",
    "ﬁ Ａ e\u0301": "ﬁ Ａ e\u0301",  # not normalized: shown as entered
    "שלום\u200f!": "שלום\u200f!",
    "\U0001fae9": "\U0001fae9",  # from a newer version of Unicode than Python's
    "\U00031350": "\U00031350",
    "\uf8ff": "\uf8ff",  # private use: a logo on a Mac
    "<b>&amp;'\"": "<b>&amp;'\"",
    "😀" * 200: "😀" * 200,
}
NO_NAMES = {
    "": EMPTY,
    " \t\u3000": EMPTY,
    "\u200b\u2060": EMPTY,
    "\u3164": EMPTY,
    "\ufe0f": EMPTY,
    "\u034f": EMPTY,
    "\U000e0100": EMPTY,
    "\U000e0fff": EMPTY,
    "\uffff": EMPTY,
    "a\0b": control("U+0000"),
    "a\nb": control("U+000A"),
    "a\x1bb": control("U+001B"),
    "a\x7fb": control("U+007F"),
    "a\x85b": control("U+0085"),
    "a\u2028b": separator("U+2028"),
    "a\u2029b": separator("U+2029"),
    **{
        f"a{each}b": direction(f"U+{ord(each):04X}")
        for each in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    },
}
EMAILS = {
    " Ada@Example.COM\n": "Ada@Example.COM",
    "x@straße.example": "x@straße.example",
    "u@xn--mnchen-3ya.example": "u@xn--mnchen-3ya.example",
    "o'hara+tag@example.co.uk": "o'hara+tag@example.co.uk",
    "用户@例子.example": "用户@例子.example",
    f"{'x' * 64}@example.com": f"{'x' * 64}@example.com",
    f"a@{'x' * 63}.example": f"a@{'x' * 63}.example",
    "a@r3---sn.example.com": "a@r3---sn.example.com",
    "a@AB--cd.münchen.example": "a@AB--cd.münchen.example",
}
NO_EMAILS = {
    "": EMPTY,
    "ada": "This is not an e-mail address.",
    "a,b@": "This is not an e-mail address.",
    "@example.com": "This is not an e-mail address.",
    "a,b@example.com": 'The part before the @ must not contain ",".',
    "(c)@example.com": 'The part before the @ must not contain "(".',
    "a b@example.com": "The part before the @ must not contain the character U+0020.",
    "a@b@example.com": 'The part before the @ must not contain "@".',
    '"a b"@example.com': "An e-mail address with quotation marks is not supported.",
    "a@[192.0.2.1]": "An e-mail address with an address literal as its domain is not supported.",
    ".a@example.com": "A dot before the @ must stand between other characters.",
    "a..b@example.com": "A dot before the @ must stand between other characters.",
    f"{'x' * 65}@example.com": "The part before the @ is too long: at most 64 octets.",
    f"{'é' * 33}@example.com": "The part before the @ is too long: at most 64 octets.",
    f"a@{'x' * 64}.example": "A label of the domain after the @ is too long: at most 63 octets.",
    f"a@{'ü' * 60}.example": "A label of the domain after the @ is too long: at most 63 octets.",
    f"{'x' * 64}@{'.'.join(['y' * 62] * 3)}.org": "This is too long: an e-mail address has at most 254 octets.",
    "a@localhost": "The domain after the @ must have the form example.com.",
    "a@example.com.": "The domain after the @ must have the form example.com.",
    "a@192.0.2.1": "The part after the @ is not a domain name.",
    "a@exa_mple.com": "The part after the @ is not a domain name.",
    "a@-example.com": "The part after the @ is not a domain name.",
    "a@xn--a.example": "The part after the @ is not a domain name.",
    "a@ab--.example": "The part after the @ is not a domain name.",
    "a@äb--cd.example": "The part after the @ is not a domain name.",
    "a\u200bb@example.com": invisible("U+200B"),
    "a@exam\u200bple.com": invisible("U+200B"),
    "a@example.com\0": invisible("U+0000"),
    "\uff41da@example.com": "The part before the @ must not contain full-width or other compatibility characters.",
}
FILE_NAMES = {
    "notes.txt": "notes.txt",
    " Bildschirmfoto 2026.png ": "Bildschirmfoto 2026.png",
    "Screenshot 10.15.07\u202fAM.png": "Screenshot 10.15.07\u202fAM.png",
    "گزارش\u200cها.pdf": "گزارش\u200cها.pdf",
    "👩\u200d🚀.jpg": "👩\u200d🚀.jpg",
    "報告\u3000書.docx": "報告\u3000書.docx",
    ".profile": ".profile",
    'a"b%c;d.txt': 'a"b%c;d.txt',
    "é" * 255: "é" * 255,
}
NO_FILE_NAMES = NO_NAMES | {
    "a/b": 'A file name must not contain "/".',
    "a\\b": 'A file name must not contain "\\".',
    ".": '"." is not a file name.',
    "..": '".." is not a file name.',
    "x" * 256: "This is too long: at most 255.",
}
MEDIA_TYPES = {
    "text/plain": "text/plain",
    " Text/Plain ": "text/plain",
    "text/plain; charset=UTF-8": "text/plain; charset=UTF-8",
    "text/plain;Charset=utf-8;;": "text/plain; charset=utf-8",
    'text/plain; charset="utf-8"; format=flowed': 'text/plain; charset="utf-8"; format=flowed',
    'text/plain; title="a;b\\"c"': 'text/plain; title="a;b\\"c"',
    "image/svg+xml": "image/svg+xml",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template.main+xml": (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.template.main+xml"
    ),
}
_NO_TYPE = 'Give a content type such as "text/plain".'
NO_MEDIA_TYPES = {
    "": EMPTY,
    "text": _NO_TYPE,
    "text/": _NO_TYPE,
    "/plain": _NO_TYPE,
    "*/*": _NO_TYPE,
    "text /plain": _NO_TYPE,
    "text/plain, text/html": _NO_TYPE,
    "text/plain\r\nX-Evil: 1": _NO_TYPE,
    "text/plain; charset=": "The parameters of this content type are not valid.",
    "text/plain; charset": "The parameters of this content type are not valid.",
    "text/plain; charset = utf-8": "The parameters of this content type are not valid.",
    'text/plain; title="a': "The parameters of this content type are not valid.",
    "text/plain; title=é": "The parameters of this content type are not valid.",
    'text/plain; title="a\r\nb"': "The parameters of this content type are not valid.",
    "text/plain; a=1; A=2": 'The parameter "a" of this content type is given twice.',
    f"text/plain; a={'x' * 250}": "This is too long: at most 255.",
}
LANGUAGES = {each: each for each in ("en", "de-AT", "zh-Hant-TW", "es-419", "gsw-CH", "sl-rozaj-biske", "de-CH-1996")}
LANGUAGES |= {each: each for each in ("EN-us", "zh-cmn-Hans-CN", "en-u-ca-buddhist", "de-t-en", "en-US-x-twain")}
LANGUAGES |= {" en ": "en", "x-klingon": "x-klingon", "i-klingon": "i-klingon", "en-GB-oed": "en-GB-oed"}
_NO_LANGUAGE = 'Give a language tag such as "en" or "de-AT".'
_REPEATED = "A language tag must not repeat a part (RFC 5646, 2.2)."
NO_LANGUAGES = dict.fromkeys(("e", "english", "de_AT", "de-", "-de", "de--AT", "en-u", "de AT", "dé"), _NO_LANGUAGE)
NO_LANGUAGES |= {"": EMPTY, "de-1996-1996": _REPEATED, "en-a-bb-a-cc": _REPEATED}
NO_LANGUAGES |= {"de" + "-abcde" * 10: "This is too long: at most 35.", "en\0": _NO_LANGUAGE}
TIME_ZONES = {
    each: each for each in ("UTC", "Europe/Vienna", "Asia/Calcutta", "Asia/Kolkata", "US/Pacific", "Etc/GMT+5")
}
TIME_ZONES |= {each: each for each in ("America/Argentina/ComodRivadavia", "Europe/Kyiv", "Europe/Kiev", "EST5EDT")}
TIME_ZONES |= {" Europe/Vienna ": "Europe/Vienna", "europe/vienna": "Europe/Vienna", "utc": "UTC"}
_NO_ZONE = 'Give a time zone such as "Europe/Vienna".'
NO_TIME_ZONES = dict.fromkeys(("Vienna", "Europe", "+01:00", "Factory", "localtime", "UTC\x00", "posixrules"), _NO_ZONE)
NO_TIME_ZONES |= {"": EMPTY, "../../etc/passwd": _NO_ZONE, "/etc/passwd": _NO_ZONE, "Europe/\u212aiev": _NO_ZONE}
CHECKSUMS = {"A" * 64: "a" * 64, f" {'0' * 64} ": "0" * 64}
_NO_CHECKSUM = "Give the SHA-256 as 64 hexadecimal digits."
NO_CHECKSUMS = {"": EMPTY, "a" * 63: _NO_CHECKSUM, "g" * 64: _NO_CHECKSUM, "\uff10" * 64: _NO_CHECKSUM}
CODES = {"123456": "123456", " 123 456 ": "123456", "\u0661\u0662\u0663\u0664\u0665\u0666": "123456"}
_NO_CODE = "A code has six digits."
NO_CODES = {"": EMPTY, "12345": _NO_CODE, "1234567": _NO_CODE, "12345a": _NO_CODE, "¹²³⁴⁵⁶": _NO_CODE}
NO_CODES |= {"1" * 21: "This is too long: at most 20."}
PASSWORDS = {
    each: each for each in (" 8 chars ", "\u0000\u0001\n\t\u202e\u2028ab", "密码密码密码密码", "😀" * 8, "x" * 256)
}
PASSWORDS |= {"pa\u0308ssword": "p\u00e4ssword", "correct\u3000horse": "correct horse"}
NO_PASSWORDS = {"": "This is too short: at least 8.", "x" * 7: "This is too short: at least 8."}
NO_PASSWORDS |= {"a\u0308" * 7: "This is too short: at least 8.", "x" * 257: "This is too long: at most 256."}
KEYS: dict[object, object] = {
    "a key": "a key",
    " f81d4fae-7dec-11d0-a765-00a0c91e6bf6 ": None,
    "ключ": None,
    "x" * 200: None,
}
NO_KEYS = {"": EMPTY, "  ": EMPTY, "a\0": control("U+0000"), "x" * 201: "This is too long: at most 200."}
WAITS: dict[object, object] = {0: None, 0.5: None}
NO_WAITS = {-0.1: "This must be 0 or more.", 30.5: "This must be 30 or less.", 10**400: None, "1": None, True: None}


@dataclass(frozen=True)
class Kind:
    """A kind of input, with its standard and examples.

    ``document`` takes ``input`` with the value in ``field``. ``keeps`` is the verb of the service call and the name of
    the body field that contains the stored value.
    """

    standard: str
    document: str
    input: Mapping[str, object]
    field: str
    accepted: Mapping[Any, Any]
    refused: Mapping[Any, str | None]
    keeps: tuple[str, str] | None = None


KINDS = {
    "address at sign-in": Kind(
        "RFC 5321, 6531; UTS 46 and IDNA 2008 for the domain",
        LOGIN,
        {"password": "x"},
        "email",
        EMAILS,
        NO_EMAILS,
        ("auth/verify_credentials", "email"),
    ),
    "address of a new user": Kind("RFC 5321, 6531", ONBOARD, NEW_USER, "email", dict.fromkeys(EMAILS), NO_EMAILS),
    "name of a person": Kind(
        "Unicode categories Cc and Cs, UAX 9",
        ONBOARD,
        NEW_USER,
        "name",
        dict.fromkeys(NAMES),
        NO_NAMES | {"x" * 201: "This is too long: at most 200."},
    ),
    "name of a file": Kind(
        "RFC 6266, 8187; Unicode",
        UPLOAD,
        FILE,
        "name",
        FILE_NAMES,
        NO_FILE_NAMES,
        ("files/create_upload", "name"),
    ),
    "media type": Kind(
        "RFC 9110, 8.3; RFC 6838, 4.2",
        UPLOAD,
        FILE,
        "contentType",
        MEDIA_TYPES,
        NO_MEDIA_TYPES,
        ("files/create_upload", "content_type"),
    ),
    "checksum": Kind(
        "SHA-256, RFC 4648, 8",
        UPLOAD,
        FILE,
        "checksum",
        CHECKSUMS,
        NO_CHECKSUMS,
        ("files/create_upload", "checksum"),
    ),
    "language": Kind(
        "RFC 5646 (BCP 47)",
        PREFER,
        {},
        "language",
        LANGUAGES,
        NO_LANGUAGES,
        ("users/update_preferences", "language"),
    ),
    "time zone": Kind(
        "IANA time zone database, RFC 6557; ECMA-402, 6.5",
        PREFER,
        {},
        "timezone",
        TIME_ZONES,
        NO_TIME_ZONES,
        ("users/update_preferences", "timezone"),
    ),
    "password at sign-in": Kind(
        "RFC 8265, 4",
        LOGIN,
        {"email": "ada@example.com"},
        "password",
        PASSWORDS | {" ": " ", "x": "x"},
        {"": EMPTY, "x" * 257: "This is too long: at most 256."},
        ("auth/verify_credentials", "password"),
    ),
    "new password": Kind(
        "NIST SP 800-63B, 3.1.1.2; RFC 8265, 4",
        ONBOARD,
        NEW_USER,
        "password",
        dict.fromkeys(PASSWORDS),
        NO_PASSWORDS,
    ),
    "one-time code": Kind("RFC 6238, RFC 4226", MFA, {"operationId": "login-x"}, "code", {}, NO_CODES),
    "idempotency key": Kind(
        "draft-ietf-httpapi-idempotency-key-header", ONBOARD, NEW_USER, "idempotencyKey", KEYS, NO_KEYS
    ),
    "seconds to wait": Kind("IEEE 754", ONBOARD, NEW_USER, "waitSeconds", WAITS, NO_WAITS),
    "id": Kind("GraphQL, 3.5.5", PROCESS, {}, "fileId", {}, {"": EMPTY, "a\0": control("U+0000"), "x" * 201: None}),
}
