"""Regions: ISO 3166 codes and English names of countries."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from identity_cli.errors import UsageError

# ISO 3166-1: the alpha-3 code of each country, then its alpha-2 code.
_ALPHA_3 = """
    ABWAW AFGAF AGOAO AIAAI ALAAX ALBAL ANDAD AREAE ARGAR ARMAM ASMAS ATAAQ ATFTF ATGAG AUSAU
    AUTAT AZEAZ BDIBI BELBE BENBJ BESBQ BFABF BGDBD BGRBG BHRBH BHSBS BIHBA BLMBL BLRBY BLZBZ
    BMUBM BOLBO BRABR BRBBB BRNBN BTNBT BVTBV BWABW CAFCF CANCA CCKCC CHECH CHLCL CHNCN CIVCI
    CMRCM CODCD COGCG COKCK COLCO COMKM CPVCV CRICR CUBCU CUWCW CXRCX CYMKY CYPCY CZECZ DEUDE
    DJIDJ DMADM DNKDK DOMDO DZADZ ECUEC EGYEG ERIER ESHEH ESPES ESTEE ETHET FINFI FJIFJ FLKFK
    FRAFR FROFO FSMFM GABGA GBRGB GEOGE GGYGG GHAGH GIBGI GINGN GLPGP GMBGM GNBGW GNQGQ GRCGR
    GRDGD GRLGL GTMGT GUFGF GUMGU GUYGY HKGHK HMDHM HNDHN HRVHR HTIHT HUNHU IDNID IMNIM INDIN
    IOTIO IRLIE IRNIR IRQIQ ISLIS ISRIL ITAIT JAMJM JEYJE JORJO JPNJP KAZKZ KENKE KGZKG KHMKH
    KIRKI KNAKN KORKR KWTKW LAOLA LBNLB LBRLR LBYLY LCALC LIELI LKALK LSOLS LTULT LUXLU LVALV
    MACMO MAFMF MARMA MCOMC MDAMD MDGMG MDVMV MEXMX MHLMH MKDMK MLIML MLTMT MMRMM MNEME MNGMN
    MNPMP MOZMZ MRTMR MSRMS MTQMQ MUSMU MWIMW MYSMY MYTYT NAMNA NCLNC NERNE NFKNF NGANG NICNI
    NIUNU NLDNL NORNO NPLNP NRUNR NZLNZ OMNOM PAKPK PANPA PCNPN PERPE PHLPH PLWPW PNGPG POLPL
    PRIPR PRKKP PRTPT PRYPY PSEPS PYFPF QATQA REURE ROURO RUSRU RWARW SAUSA SDNSD SENSN SGPSG
    SGSGS SHNSH SJMSJ SLBSB SLESL SLVSV SMRSM SOMSO SPMPM SRBRS SSDSS STPST SURSR SVKSK SVNSI
    SWESE SWZSZ SXMSX SYCSC SYRSY TCATC TCDTD TGOTG THATH TJKTJ TKLTK TKMTM TLSTL TONTO TTOTT
    TUNTN TURTR TUVTV TWNTW TZATZ UGAUG UKRUA UMIUM URYUY USAUS UZBUZ VATVA VCTVC VENVE VGBVG
    VIRVI VNMVN VUTVU WLFWF WSMWS YEMYE ZAFZA ZMBZM ZWEZW
"""

# Names besides those of phonenumbers, which is the source of the others.
_NAMES = {
    "AE": ("UAE", "Emirates"),
    "BA": ("Bosnia", "Bosnia-Herzegovina"),
    "BN": ("Brunei Darussalam",),
    "BO": ("Plurinational State of Bolivia", "Bolivia, Plurinational State of"),
    "BS": ("Bahamas, The",),
    "CC": ("Cocos (Keeling) Islands",),
    "CD": (
        "Democratic Republic of the Congo",
        "Congo, The Democratic Republic of the",
        "DR Congo",
        "DRC",
        "Congo-Kinshasa",
    ),
    "CG": ("Republic of the Congo", "Congo, Republic of the", "Congo-Brazzaville"),
    "CI": ("Ivory Coast",),
    "CN": ("People's Republic of China", "PRC", "Mainland China"),
    "CV": ("Cabo Verde",),
    "CZ": ("Czechia",),
    "DE": ("Federal Republic of Germany",),
    "FK": ("Falkland Islands (Malvinas)",),
    "FM": ("Federated States of Micronesia", "Micronesia, Federated States of"),
    "GB": (
        "UK",
        "Great Britain",
        "Britain",
        "England",
        "Scotland",
        "Wales",
        "Northern Ireland",
        "United Kingdom of Great Britain and Northern Ireland",
    ),
    "GM": ("Gambia, The",),
    "GR": ("EL", "Hellas"),
    "HK": ("Hong Kong SAR", "Hong Kong SAR China"),
    "IE": ("Republic of Ireland", "Eire"),
    "IR": ("Islamic Republic of Iran", "Iran, Islamic Republic of"),
    "KP": ("Korea, Democratic People's Republic of", "Democratic People's Republic of Korea"),
    "KR": ("Republic of Korea", "Korea, Republic of", "Korea", "Korea, South"),
    "LA": ("Lao People's Democratic Republic", "Lao PDR"),
    "MD": ("Republic of Moldova", "Moldova, Republic of"),
    "MK": ("North Macedonia", "Republic of North Macedonia"),
    "MM": ("Burma",),
    "MO": ("Macau", "Macao SAR", "Macau SAR China"),
    "NL": ("Holland",),
    "PS": ("State of Palestine", "Palestine, State of", "Palestinian Territories"),
    "RE": ("La Reunion",),
    "RU": ("Russian Federation",),
    "SX": ("Sint Maarten",),
    "SY": ("Syrian Arab Republic",),
    "SZ": ("Eswatini",),
    "TL": ("East Timor",),
    "TR": ("Turkiye",),
    "TW": ("Taiwan, Province of China", "Taiwan, Republic of China"),
    "TZ": ("United Republic of Tanzania", "Tanzania, United Republic of"),
    "US": ("USA", "United States of America", "America", "U.S. of A."),
    "VA": ("Vatican City", "Holy See", "Holy See (Vatican City State)"),
    "VE": ("Bolivarian Republic of Venezuela", "Venezuela, Bolivarian Republic of"),
    "VG": ("Virgin Islands, British",),
    "VI": ("US Virgin Islands", "Virgin Islands, U.S.", "United States Virgin Islands"),
    "VN": ("Viet Nam",),
    "XK": ("Kosovo",),
}

_word = re.compile(r"[a-z0-9]+").findall


def check_region(region: str | None) -> str | None:
    """Return the region in upper case. Raises `UsageError` if it has no known phone numbers."""
    if region is None:
        return None
    import phonenumbers

    region = region.upper()
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise UsageError(
            f"no phone numbers are known for region {region!r}",
            hint="use an ISO 3166 country code, for example --region US",
        )
    return region


@lru_cache(maxsize=4096)
def region_code(text: str) -> str | None:
    """Return the ISO 3166 alpha-2 code of a country's code or English name, None if unknown."""
    return _codes().get(_key(text))


@lru_cache(maxsize=1)
def _codes() -> dict[str, str]:
    import phonenumbers
    from phonenumbers.geodata.locale import LOCALE_DATA

    codes = {code[:3]: code[3:] for code in _ALPHA_3.split()}
    for code, names in LOCALE_DATA.items():
        # A name that is the same in another language is stored as * and that language.
        name = names.get("en", "")
        codes[names[name[1:]] if name.startswith("*") else name] = code
    codes |= {name: code for code, names in _NAMES.items() for name in names}
    codes |= {code: code for code in phonenumbers.SUPPORTED_REGIONS}
    return {
        _key(name): code for name, code in codes.items() if code in phonenumbers.SUPPORTED_REGIONS
    }


def _key(text: str) -> str:
    """Return a name without case, accents, punctuation and the article: U.S.A. is usa."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace(".", "").replace("&", " and "))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).replace("'", "")
    words = [word for word in _word(plain) if word != "the"]
    return " ".join("saint" if word == "st" and len(words) > 1 else word for word in words)
