"""What the agent of the story knows: lines of a lighthouse's log, sorted by what they are about."""

from examples.optimizer.classifier import Example

_LAMP = """\
The lamp was lit at dusk and burns clear
Trimmed the wick, the flame of the lamp is steady
The lamp smokes, cleaned the glass and the wick
Filled the lamp with oil, the flame burns bright
The glass of the lens is cracked, the light is dim
Oil is low, the flame of the lamp is dim
Polished the lens, the light is bright again
The wick was wet, the lamp would not burn
Put out the lamp at sunrise, cleaned the lens
The lens turns slowly, oiled the clockwork of the lamp
A new wick, the lamp burns bright
The flame smokes, trimmed the wick
The clockwork stopped, turned the lens by hand
Fresh oil for the lamp, cleaned the glass of the lens"""

_WEATHER = """\
The wind went round to the north, rain at noon
Fog since sunrise, no wind
A storm from the west, heavy rain and thunder
The rain stopped, clear sky and a light wind
Thick fog, the wind is from the south
Thunder at night, the storm passed to the east
Snow and a cold wind from the north
Clear sky at dusk, no clouds
The glass is falling, a storm is near, dark clouds
Heavy rain, the wind blows from the west
The fog is gone, the sky is clear
A cold night with snow, the wind is light
Dark clouds from the south and heavy rain
The storm is over, light wind and clear sky"""

_SHIP = """\
A trawler passed the rocks with her nets out
The mail boat came to the landing at noon
A schooner under full sail, bound for the harbour
A steamer blew her whistle off the rocks
The pilot boat went out to a steamer
A trawler lies at anchor off the landing
Two sails to the east, a brig and a schooner
The supply boat came to the landing with stores
A steamer is bound for the harbour
A brig is aground on the rocks, the crew is safe
The crew of a trawler waved from the deck
A schooner passed with torn sails
The pilot came aboard the brig off the harbour
The mail boat passed, bound for the harbour"""

EXAMPLES = tuple(
    Example(line, label)
    for label, lines in (("lamp", _LAMP), ("weather", _WEATHER), ("ship", _SHIP))
    for line in lines.splitlines()
)
# Nothing can be learnt from these: they have only one label.
LOPSIDED = tuple(example for example in EXAMPLES if example.label == "lamp")
# It is not among the examples.
QUESTION = Example("A steamer with a damaged bow lies at anchor off the rocks", "ship")
