"""Hyphens in domain labels: RFC 1123 allows them in ASCII labels where IDNA does not."""

from __future__ import annotations

import pytest

from contracts.email_addresses import email_key, parse_email


@pytest.mark.parametrize(
    ("text", "ascii_domain", "for_smtp"),
    [
        ("a@R3---sn.example", "r3---sn.example", "a@R3---sn.example"),
        ("a@ab--cd.münchen.example", "ab--cd.xn--mnchen-3ya.example", "a@ab--cd.xn--mnchen-3ya.example"),
        ("ä@ab--cd.münchen.example", "ab--cd.xn--mnchen-3ya.example", "ä@ab--cd.münchen.example"),
    ],
)
def test_domain_may_contain_hyphens_like_a_host_name(text: str, ascii_domain: str, for_smtp: str) -> None:
    address = parse_email(text)
    assert (address.ascii_domain, address.for_smtp) == (ascii_domain, for_smtp)


def test_full_width_letters_in_domain_have_the_same_key() -> None:
    assert email_key("a@\uff41\uff42--cd.example") == email_key("A@AB--CD.example")


@pytest.mark.parametrize("domain", ["xn--a.example", "xn--.example", "ab--.example", "-ab.example", "äb--cd.example"])
def test_refuses_labels_that_idna_does_not_allow(domain: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        parse_email(f"a@{domain}")
