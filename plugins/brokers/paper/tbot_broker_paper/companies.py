"""The companies of the simulated market; all are fictitious, symbols included."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Company:
    """A fictitious company and its sector."""

    symbol: str
    name: str
    sector: str


_BY_SECTOR: Final = {
    "circuits": "AXILO Axilo Photonics, BREMT Bremtide Circuits, CYNDO Cyndo Memory, DOLVA Dolva Optics, ELTRO Eltrova",
    "software": "FENNO Fennomark, GRYMO Grymo Games, HALVO Halvorsen Data, IXOLO Ixolo Security, JUNVO Junvo Maps",
    "medicine": "KELDO Keldo Remedies, LYMBO Lymbo Labs, MEDRO Medrova Devices, NUVIL Nuvil Genetics, OXALO Oxalo Care",
    "energy": "PELTO Pelto Drilling, QUARN Quarn Pipelines, ROVEL Rovel Refining, SULVA Sulva Solar, TARNO Tarno Wind",
    "finance": "UMVEL Umvel Bancorp, VALDO Valdo Insurance, WENTO Wento Payments, XENBA Xenba Loans, YARLO Yarlo",
    "retail": "AMBLO Amblo Outfitters, BOWNO Bowno Grocers, CARVO Carvo Kitchens, DUNLA Dunla Sports, ZOLTA Zolta",
    "industry": "ESKRO Eskro Cranes, FORJA Forja Castings, GALVE Galve Aircraft, HELMO Helmo Bearings, INGTA Ingta",
    "materials": "JASPO Jaspo Quarries, KORVA Korva Paper, LITHA Litha Salts, MORVO Morvo Chemicals, NIKLO Niklo",
}

SECTORS: Final = tuple(_BY_SECTOR)
COMPANIES: Final = tuple(
    sorted(
        (
            Company(symbol=symbol, name=name, sector=sector)
            for sector, row in _BY_SECTOR.items()
            for symbol, name in (entry.split(" ", 1) for entry in row.split(", "))
        ),
        key=lambda company: company.symbol,
    )
)
SYMBOLS: Final = tuple(company.symbol for company in COMPANIES)
