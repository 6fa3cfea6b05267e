"""What the demo says: a night on watch in a lighthouse, one turn for each hour."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A round with a tool call: the note goes into the log; without one the clock is asked."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn: its rounds with tool calls, and the answer that ends it."""

    steps: tuple[Step, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of the watch: its name, what the inner voice says, what the keeper does."""

    name: str
    voice: str
    scene: Scene


# Seven against eight hours, so that no two nights are alike for a week.
WEATHER = (
    "Wind south-west, four; a long slow swell from the west.",
    "The wind has gone north and brought the cold with it.",
    "No wind. The sea lies like slate.",
    "Rain in bands from the south-west; between them the horizon is sharp.",
    "A fog bank two miles off, not moving yet.",
    "Clear. So many stars that the harbour lights look like a mistake.",
    "Wind west, six. Spray reaches the gallery rail.",
)

WATCH = (
    Hour(
        "ten o'clock",
        "Light the lamp and open the log.",
        Scene(
            (
                Step(
                    "Lamp lit at the first strike, lens clean, clockwork wound for the night. "
                    "Before I write a word I want the exact time."
                ),
                Step(
                    "I open a new page. The beam reaches the bell buoy and comes back, ten seconds a turn, "
                    "as it should.",
                    "Lamp lit. Ten seconds a turn. Lens clean.",
                ),
                Step(
                    "Down at the landing the boat is lashed twice. The gulls have the rail to themselves "
                    "and are complaining about it.",
                    "Landing checked, boat lashed. Gulls: many.",
                ),
            ),
            "Ten o'clock round done. The light turns, the page is open, nothing on the water needs me.",
        ),
    ),
    Hour(
        "eleven o'clock",
        "See who is on the water.",
        Scene(
            (
                Step(
                    "Three lights out there: a trawler, a coaster, and one that does not say what it is. "
                    "I take the time before I take the bearings."
                ),
                Step(
                    "The trawler holds north-west with her nets down. The coaster will pass outside the reef "
                    "with a mile to spare.",
                    "Trawler north-west, nets down. Coaster clear of the reef by one mile.",
                ),
                Step(
                    "The third light blinked twice and showed its side: the pilot boat, going home early. "
                    "That closes the mystery.",
                    "Third light is the pilot boat, homeward.",
                ),
            ),
            "Eleven o'clock: three lights, three names, nobody near the reef.",
        ),
    ),
    Hour(
        "midnight",
        "Read the glass and start a new date.",
        Scene(
            (
                Step("A new date, so the clock goes into the log first. Whatever comes after leans on it."),
                Step(
                    "The glass stands at 1009 and is falling slowly. Not a storm, but something is thinking "
                    "about becoming one.",
                    "Barometer 1009, falling slowly.",
                ),
                Step(
                    "Oil at two thirds. At this rate it lasts until Thursday, and the supply boat comes on "
                    "Wednesday, which is the right order.",
                    "Oil two thirds. Enough until the supply boat.",
                ),
            ),
            "Midnight round done. The pressure is the one thing to watch; I read it again at two.",
        ),
    ),
    Hour(
        "one o'clock",
        "Go up and clean the lens.",
        Scene(
            (
                Step(
                    "Ninety-one steps with a bucket and a cloth. I take the time at the bottom; at the top "
                    "I will not have a free hand."
                ),
                Step(
                    "Salt on the seaward panes, thick enough to write in. I work from the top down, so that "
                    "every drip is my own fault only once.",
                    "Seaward panes cleaned. Salt heavy.",
                ),
                Step(
                    "A moth as wide as my hand sat inside the glass. It is outside now and considers this "
                    "an injustice.",
                    "One moth removed, alive.",
                ),
            ),
            "One o'clock: clean glass, full beam, one moth fewer.",
        ),
    ),
    Hour(
        "two o'clock",
        "Make the next round.",
        Scene(
            (
                Step("Second look at the glass, as promised at midnight. The time first, then the figure."),
                Step(
                    "1006 now. Three down in two hours: weather by morning. I bring in whatever the wind "
                    "could take.",
                    "Barometer 1006. Loose gear brought in.",
                ),
                Step(
                    "A call on the short wave: the trawler asks whether the light is steady. It is, and now "
                    "she has heard somebody say so.",
                    "Trawler called, answered. Light steady.",
                ),
            ),
            "Two o'clock round done: a falling glass, everything lashed, one skipper reassured.",
        ),
    ),
    Hour(
        "three o'clock",
        "Stay awake and count what is there.",
        Scene(
            (
                Step(
                    "This is the hour in which keepers begin to see things. I count what is really there "
                    "and start with the clock."
                ),
                Step(
                    "Ships in sight: none. Buoys in sight: two of two. Cups of coffee: four, one of them "
                    "still warm.",
                    "No ships. Both buoys lit.",
                ),
                Step(
                    "The clockwork has lost a second since midnight. I give the weight a quarter turn and "
                    "listen until it ticks clean.",
                    "Clockwork one second slow, corrected.",
                ),
            ),
            "Three o'clock: nothing out there, and I looked properly.",
        ),
    ),
    Hour(
        "four o'clock",
        "Something sounded off the reef. Find out what it was.",
        Scene(
            (
                Step(
                    "Metal on stone, from the reef. I take the minute before anything else: a sound is worth "
                    "no more than its time."
                ),
                Step(
                    "Glass to the eye: a drum rolling in the break, blue, half full. No boat, no people.",
                    "Blue drum adrift on the reef, half full. No vessel near.",
                ),
                Step(
                    "The tide will float it off within the hour and set it north. I warn the coaster on "
                    "channel sixteen; she thanks me and turns a little.",
                    "Coaster warned of the drum. Acknowledged.",
                ),
            ),
            "Four o'clock: the sound has a name, the coaster a warning, the drum is the sea's affair.",
        ),
    ),
    Hour(
        "five o'clock",
        "Close the night.",
        Scene(
            (
                Step("Grey in the east. The last entry wants the exact time, like the first."),
                Step(
                    "Lamp out at first light, lens covered, weight run down. The tower is suddenly only "
                    "a tower.",
                    "Lamp out. Lens covered.",
                ),
                Step(
                    "I read the page from the top: no gaps, no guesses, and only one remark about the gulls. "
                    "It can be signed.",
                    "Log of the night complete.",
                ),
            ),
            "The night is closed. The light was never dark while it was needed. Next watch at ten.",
        ),
    ),
)

# An order takes the place of the watch, from the moment it is heard: {order} is the order, in quotes.
NEW_ORDER = Scene(
    (
        Step(
            "I go at {order} the way I go at the stairs: from the bottom, with one hand free. The time "
            "first, so that the log shows when it began."
        ),
        Step(
            "Half of it is behind me. Nothing so far contradicts the log, and one old entry makes more "
            "sense now.",
            "Half done: {order}. No surprises.",
        ),
    ),
    "On {order}: begun, worked through, reported. I stay with it until somebody has a better idea.",
)

STANDING_ORDER = (
    Scene(
        (
            Step(
                "Still on {order}. The first pass was for speed, this one is for what I missed. The time, "
                "before I start."
            ),
            Step(
                "Second pass. I hold my own entries against the glass and the chart, and strike out one "
                "adjective.",
                "Second pass on {order}. Entries checked.",
            ),
            Step(
                "What is left fits on one line. I do that line now, in the ten seconds of dark between two "
                "beams.",
                "Last open point of {order} dealt with.",
            ),
        ),
        "{order}: gone over again, nothing left open. The lamp was not neglected for it.",
    ),
    Scene(
        (
            Step(
                "{order} is a standing order by now. I look at it with fresh eyes once more, and note when."
            ),
            Step(
                "Nothing has changed since the last look, which is a result too and gets its line.",
                "{order}: no change.",
            ),
            Step(
                "I tell the trawler as well. Four eyes see more than two, and hers are closer to it.",
                "Trawler told about {order}.",
            ),
        ),
        "Nothing new on {order}. It keeps its line at the top of the page.",
    ),
)
