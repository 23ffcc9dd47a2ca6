"""Which columns are used as emails and phone numbers, and which never are."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.errors import UsageError
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.formats.columns import choose, find, kind_of, why_unused

# A line is a row of names, as exports and people write them.
EMAILS = """
email | Email | EMAIL | e-mail | E-Mail | E mail | e_mail | eMail | EMail | mail | Mail | emails | email:
Email Address | email_address | EmailAddress | emailAddress | emailaddress | E-mail address | E-mail Address
E-mail 1 - Value | E-mail 2 - Value | E-mail 2 Address | E-mail 3 Address | Email 2 | email1 | Email #2
Work email | Email (work) | Email - Work | work_email | Home Email | Personal Email | Private e-mail
Business Email | Office Email | Mobile email | Other Email | Other emails | Secondary Email | Alternate Email
alt_email | Additional email addresses | Primary Email | Main Email | Second e-mail | Preferred email
billing_email | billing.email | Billing: Email | shipping_email | user_email | userEmail | User.Email
Customer Email | customer_email | Client email | Contact Email | contact_email | Primary Contact Email
Person - Email - Work | Person - Email - Home | Person - Email - Other | Lead Email | Member email | Invitee Email
Subscriber Email | Your email | Your email address | What's your email? | What is your email address?
Email* | *Email | Email (required) | $email | [Email] | "Email" | workemail | personalemail | contactemail
E-Mail-Adresse | E-Mail 2: Adresse | Mailadresse | E-Mail (privat) | E-Mail geschäftlich | Private E-Mail
Geschäftliche E-Mail-Adresse | Kunden-E-Mail | Ihre E-Mail-Adresse | Weitere E-Mail
Courriel | Adresse e-mail | Adresse électronique | Adresse de messagerie | Adresse mail | Mél | E-mail professionnel
Courriel personnel | Votre adresse e-mail | Adresse courriel | E-mail du client
Correo | Correo electrónico | Correo Electronico | Dirección de correo electrónico | Correo personal
Correo electrónico del trabajo | Tu correo electrónico | Correo electrónico 2
Correio eletrônico | Endereço de email | E-mail pessoal | Endereço de e-mail | Email do cliente
Posta elettronica | Indirizzo e-mail | Indirizzo email | Email personale | E-mail ufficio | La tua email
E-mailadres | E-mailadres (werk) | Zakelijk e-mailadres | Mailadres | Je e-mailadres | E-mail thuis
"""
PHONES = """
phone | Phone | PHONE | phone number | Phone Number | phoneNumber | PhoneNumber | phone_number | Phone-Number
phone.number | Phone/Number | phonenumber | Phone # | Phone No. | Phone no | phoneno | Phone Numbers | phones
Telephone | Telephone Number | Tel | Tel. | tel no | TelNo | Tel. 1 | Tel 2 | TelePhone
Mobile | mobile | Mobile Phone | Mobile Number | MobileNumber | Mobile No | Mobile Phone Number | mobilephone
Cell | Cell phone | cellphone | Cell Number | Cellular | Cell # | Landline | land line | Home Phone | HomePhone
Home Phone 2 | home_phone | homephone | Work phone | Work Phone Number | Phone (work) | Phone - home
Phone - mobile | Phone - work | Phone - other | Phone 1 - Value | Phone 2 - Value | Business Phone | Business Phone 2
Office Phone | Other Phone | Primary Phone | Main Phone | Alt. Phone | Alternate Phone | Secondary phone
Daytime phone | Direct line | Direct Phone | DDINumber | Contact Number | Contact No. | Contact Phone
Customer Phone | customer_phone | billing_phone | Billing Phone | Shipping Phone | shipping.phone
Default Address Phone | user.phone | User Phone | Person - Phone - Work | Person - Phone - Mobile
WhatsApp Number | WhatsApp Phone Number | SMS Phone Number | Phone1 | phone_2 | Personal Mobile | Private mobile
Car Phone | Cell/Mobile | Mobile / Cell | Your phone number | What's your phone number? | Client mobile
Telefon | Telefonnummer | Telefon (privat) | Telefon geschäftlich | Telefon Privat | Privattelefon
Geschäftstelefon | Haupttelefon | Weiteres Telefon | Mobiltelefon | Mobilnummer | Mobil | Handy | Handynummer
Handy-Nr. | Tel.-Nr. | Tel. Nr | Rufnummer | Festnetz | Festnetznummer | Mobilfunknummer | Natel | Autotelefon
Téléphone | Telephone portable | Téléphone (domicile) | Téléphone (bureau) | Tél. mobile | Tél | Portable
Téléphone fixe | Numéro de téléphone | N° de téléphone | Téléphone professionnel | Votre téléphone
Teléfono | Teléfono móvil | Móvil | Celular | Teléfono de casa | Teléfono del trabajo | Teléfono fijo
Número de teléfono | Teléfono 2 | Tu teléfono | Número de celular
Telefone | Telemóvel | Telefone fixo | Telefone residencial | Telefone comercial | Número de telefone | Seu telefone
Telefono | Cellulare | Telefono fisso | Telefono casa | Telefono ufficio | Numero di telefono | Numero di cellulare
Telefoon | Telefoonnummer | Mobiel | Mobiele telefoon | Mobiel nummer | GSM | Vaste telefoon | Telefoon werk
Telefoon (thuis) | Uw telefoonnummer
"""
# These look like contact values.
UNUSED = """
owner email | Owner Email | ownerEmail | owneremail | Account Owner Email | Contact owner email | Person - Owner - Email
Agent phone | agency_email | Assistant's Phone | Assistant Phone | Asst. Phone | Manager email | managerPhone
Company Email | Company Phone | Company Main Phone | company_phone | CompanyPhone | Account Phone | account.email
Organization 1 - Phone | Organisation email | Shared phone number | shared_phone_number | group email
Emergency phone | Emergency Contact Phone | emergencyPhone | Next of kin phone | Referrer Email | referrer_email
Referred by email | Parent email | Parent Phone | Mother's phone | Guardian Email | Spouse Mobile | Partner email
Guest Email(s) | Buyer Email | buyer-phone-number | Seller email | From Email Address | To Email Address | CC Email
Reply-To Email | Sender email | Recipient email | Host Email | Organizer Email | Salesperson email | Sales rep phone
Created by email | Modified by email | Assigned to email | Employee email | Staff phone | Store Phone | Support email
Customer Service Phone | School email | Info email | Admin Email | Technical Contact Email | Doctor phone
Secondary Contact Email | Other contact phone | Alternate Contact Phone | Contact 2 Email | contact_2_phone
Person 2 email | Additional user email | Student 2 phone
Fax | Fax Number | Home Fax | Business Fax | Other Fax | FaxNumber | Telefax | Fax phone | Pager | Phone (fax) | TTY/TDD Phone
Email Opt Out | email_opt_in | Email Opted In | Mail opt-out | Email status | Email permission status | Email lists
Email Subscription Status | Email Marketing Consent | Accepts Email Marketing | Email consent | email_type | EMAIL_TYPE
E-mail Type | E-mail 1 - Label | E-mail 1 - Type | E-mail Display Name | Phone 1 - Label | Phone Type | Phone label
Email verified | emailVerified | email_verified_at | Phone verified | phone_confirmed | Email valid | Is Mobile | is_email
has_phone | No email | no_phone | Do not email | Email domain | Email Count | Number of emails | Emails sent | Emails opened
Email ID | email_id | phone_id | Mobile ID | Email hash | email_md5 | Email date | Last email date | Email sent at
Phone country code | Phone extension | Phone Ext. | Phone area code | Phone model | Mobile app | Mobile device | Mobile OS
Mobile home | Email client | Email template | Email subject | Unsubscribed from Emails | Marked email as spam
Marketing emails bounced | Has hard bounced email | First marketing email click date | Recovery phone | Recovery Email
Email number | Email or phone | email/phone | Phone / Email | custom_fields.alt_email | Old phone | Previous email
SMS | WhatsApp | PayPal email | Preferred phone method | Email language | Phone call count | Contact email notes
E-Mail-Typ | Telefon Firma | Telefon Assistent | E-Mail bestätigt | Notfall-Telefon | Fax geschäftlich | Firmen-E-Mail
Téléphone société | Téléphone de l'assistant | Téléphone d'urgence | Type de téléphone | E-mail du propriétaire
Teléfono de la empresa | Teléfono de emergencia | Tipo de teléfono | Email del propietario | Telefone da empresa
Telefono azienda | Telefono di emergenza | Telefoon bedrijf | E-mail eigenaar | Noodgeval telefoon
"""
# These have nothing to do with contact values.
OTHERS = """
id | Name | First Name | Last Name | Phonetic First Name | Company | Company Name | Contact owner | Account Name
Notes | Birthday | Address | Mailing City | Mailing Street | Billing City | billing_company | Default Address Company
Title | Website | URL | Home | Work | Hotel | Emailed | Cellar | Number | Customer ID | ID | Order Number
Contact | Person - Name | Person - Owner | user_login | user_pass | Lead Status | Create Date | Tags | Country | Region
_line | _code | _reason | primary_contact_id | identity_status | linked_id | Skype | From | To | mailbox | Photo
Notizen | Vorname | Nachname | Straße | Prénom | Apellido | Ort | 1 | 2 |   | ☎ | 電話
"""


def names(text: str) -> list[str]:
    return [name.strip() for line in text.strip().splitlines() for name in line.split(" | ")]


@pytest.mark.parametrize("name", names(EMAILS))
def test_column_of_emails_is_recognised(name: str) -> None:
    assert (kind_of(name), why_unused(name)) == ("email", None)


@pytest.mark.parametrize("name", names(PHONES))
def test_column_of_phone_numbers_is_recognised(name: str) -> None:
    assert (kind_of(name), why_unused(name)) == ("phone", None)


@pytest.mark.parametrize("name", names(UNUSED))
def test_column_that_may_be_another_partys_or_another_value_is_reported_and_not_used(
    name: str,
) -> None:
    assert kind_of(name) is None
    assert why_unused(name)


@pytest.mark.parametrize("name", names(OTHERS))
def test_column_of_something_else_is_neither_used_nor_reported(name: str) -> None:
    assert (kind_of(name), why_unused(name)) == (None, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Owner Email", "'owner' may refer to another person or thing"),
        ("Email status", "'status' is about the value"),
        ("Phone model", "'model' is about the value"),
        ("Email zzz", "'zzz' is not a known word"),
        ("Fax", "'fax' is not a phone number of a person"),
        ("SMS", "'sms' may be a number, or yes or no"),
        ("Email or phone", "'or' is not a known word"),
        ("Email/Phone", "it may hold emails or phone numbers"),
    ],
)
def test_reason_names_the_word(name: str, reason: str) -> None:
    assert why_unused(name) == reason


WORDS = ["e-mail", "email", "phone", "mobile", "work", "2", "owner", "fax", "zzz", "number", "sms"]


@given(
    st.lists(st.sampled_from(WORDS), max_size=5), st.sampled_from([" ", "-", "_", ".", ":", "/"])
)
def test_case_and_separators_make_no_difference(words: list[str], separator: str) -> None:
    spaced, joined = " ".join(words), separator.join(words)
    assert kind_of(joined) == kind_of(spaced) == kind_of(spaced.upper())


@given(st.lists(st.sampled_from(WORDS), max_size=5))
def test_one_word_of_another_party_makes_any_name_unused(words: list[str]) -> None:
    assert kind_of(" ".join([*words, "owner"])) is None


@given(st.text())
def test_name_is_either_used_or_has_a_reason_or_is_something_else(name: str) -> None:
    assert kind_of(name) is None or why_unused(name) is None


def test_overlong_name_is_not_looked_at() -> None:
    assert kind_of("email " * 100) is None
    assert kind_of("email" * (1 << 20)) is None


def test_entry_is_in_one_list_of_the_table_only() -> None:
    path = resources.files("identity_cli.importer.formats").joinpath("column_words.toml")
    table = tomllib.loads(path.read_text("utf-8"))
    seen: dict[str, str] = {}
    for section, lists in table.items():
        for key, entries in lists.items():
            if section == "gives_way":
                continue
            for entry in entries:
                assert entry == entry.casefold()
                assert seen.setdefault(entry, f"{section}.{key}") == f"{section}.{key}", entry


# The columns of a table.


def chosen(header: str, **options: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    choice = choose(header.split(","), InputOptions(**options))
    return choice.emails, choice.phones


def test_all_recognised_columns_are_used_in_their_order() -> None:
    assert chosen("Mobile,name,Email 2,Phone,Email,Fax") == ((2, 4), (0, 3))


@pytest.mark.parametrize(
    ("header", "mapping", "columns"),
    [
        ("a,b", [("email", "a"), ("phone", "b")], ((0,), (1,))),
        ("a,b,c", [("email", "c"), ("email", "a")], ((2, 0), ())),
        ("a,b", [("email", "a"), ("email", "a")], ((0,), ())),
        ("email,other,tel", [("email", "other")], ((1,), (2,))),
        ("mail,tel", [("email", "tel")], ((1,), ())),
        ("mail,tel", [("email", "tel"), ("phone", "mail")], ((1,), (0,))),
        ("A ,b", [("email", "a")], ((0,), ())),
        ("a,A", [("email", "A")], ((1,), ())),
        ("Owner E-Mail,b", [("email", "owner_e_mail")], ((0,), ())),
        ("T\u00e9l\u00e9phone bureau,b", [("phone", "telephone-bureau")], ((), (0,))),
    ],
)
def test_map_names_the_columns(header: str, mapping: Any, columns: Any) -> None:
    assert chosen(header, mapping=mapping) == columns


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("a,b", {"mapping": [("email", "c")]}, "--map email=c: there is no column 'c'"),
        ("a,a", {"mapping": [("email", "a")]}, "--map email=a: 2 columns match"),
        ("a,b", {"mapping": [("email", "a"), ("phone", "a")]}, "cannot hold both"),
        ("email,b", {"region_column": "c"}, "--region-column c: there is no column 'c'"),
        ("email,b", {"key": "c"}, "--key c: there is no column 'c'"),
        ("\u260e,email", {"mapping": [("phone", "?")]}, "there is no column '?'"),
    ],
)
def test_named_column_that_does_not_exist_is_wrong_usage(
    header: str, options: Any, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(header, **options)
    assert message in str(caught.value)
    assert caught.value.hint


def test_report_names_used_and_unused_columns() -> None:
    header = ["Email", "Owner Email", "Land", "Nr", "Tel"]
    choice = choose(header, InputOptions(region_column="Land", key="Nr"))
    assert (choice.region, choice.key) == (2, 3)
    assert choice.report.used == (
        ("Email", "email"),
        ("Tel", "phone"),
        ("Land", "region"),
        ("Nr", "key"),
    )
    assert [name for name, _ in choice.report.unused] == ["Owner Email"]


def test_mapped_column_is_not_reported_as_unused() -> None:
    choice = choose(["Owner Email"], InputOptions(mapping=[("email", "Owner Email")]))
    assert choice.report.unused == ()


def test_user_gives_way_to_the_invitee() -> None:
    header = "User Name,User Email,Invitee Name,Invitee Email"
    assert chosen(header) == ((3,), ())
    assert chosen("User Name,User Email") == ((1,), ())
    report = choose(header.split(","), InputOptions()).report
    assert report.unused == (("User Email", "'user' may be another person than 'invitee'"),)


def test_find_prefers_the_exact_name() -> None:
    assert find(["e-mail", "E_Mail", "E-Mail"], "E-Mail", "--map email=E-Mail") == 2
    assert find(["E_MAIL", "E-MAIL"], "e-mail", "--map email=e-mail") == 1


def test_unused_columns_of_a_damaged_table_are_listed_only_in_part() -> None:
    report = choose(["email", *(f"email zz{i}" for i in range(5000))], InputOptions()).report
    assert len(report.unused) == 100
