"""The templates of the set `rich`: names, things, and the events that its stories consist of.

An event changes one running quantity, `x`.  The question holds the event's sentence, the solution its lines.  In a line
`[y=x*p/100]` is a calculation, which is worked out from left to right and written with GSM8K's annotation.  A letter in
braces is replaced by a number drawn from NUMBERS, and `{part}` by the word for one part in `d`.  All sentences are the
project's own.
"""

from typing import NamedTuple

NAMES = [
    "Ada", "Aisha", "Alba", "Amir", "Anna", "Anton", "Arne", "Asha", "Bela", "Ben", "Bruno", "Carla", "Cem", "Chen",
    "Chloe", "Clara", "Cleo", "Dan", "Dara", "Diego", "Dina", "Edda", "Elif", "Elsa", "Emil", "Erik", "Esra", "Eva",
    "Fadi", "Fatima", "Felix", "Finn", "Flora", "Fynn", "Gina", "Goran", "Greta", "Gus", "Hana", "Hasan", "Heidi",
    "Hugo", "Ida", "Igor", "Ilse", "Imran", "Ines", "Iris", "Ivan", "Jana", "Jens", "Jin", "Jonas", "Juan", "Jule",
    "Kai", "Karim", "Kira", "Kofi", "Lars", "Layla", "Lena", "Levi", "Lila", "Linus", "Lotte", "Luca", "Luz",
    "Maja", "Malik", "Marta", "Mateo", "Mei", "Mia", "Milan", "Mina", "Nadia", "Nia", "Nils", "Nina", "Noor",
    "Odin", "Olga", "Omar", "Oskar", "Otto", "Pablo", "Paula", "Pia", "Piet", "Priya", "Quinn", "Rafi", "Rana",
    "Ravi", "Rita", "Romy", "Rosa", "Ruben", "Saida", "Sami", "Sara", "Selma", "Sina", "Soren", "Tara", "Theo",
    "Tilda", "Tom", "Uma", "Umar", "Ursa", "Vera", "Viktor", "Wanda", "Wei", "Willa", "Xenia", "Yara", "Yuki",
    "Yusuf", "Zeno", "Zoe",
]  # fmt: skip
ITEMS = [
    "acorns", "apples", "badges", "balloons", "balls", "bananas", "beads", "biscuits", "bolts", "books", "bottles",
    "bows", "bowls", "boxes", "bricks", "brushes", "buns", "buttons", "cakes", "candles", "cards", "carrots",
    "chairs", "cherries", "clips", "coins", "combs", "cookies", "cups", "daisies", "dolls", "eggs", "envelopes",
    "erasers", "feathers", "figs", "flags", "flowers", "folders", "forks", "gems", "gloves", "hats", "hooks",
    "jars", "kites", "lamps", "leaves", "lemons", "limes", "magnets", "mangoes", "maps", "marbles", "masks", "mugs",
    "muffins", "nails", "napkins", "needles", "notebooks", "nuts", "onions", "oranges", "paintings", "peaches",
    "pears", "pebbles", "pencils", "pens", "pictures", "pillows", "pins", "plants", "plates", "plums", "posters",
    "postcards", "pots", "puzzles", "radishes", "ribbons", "rings", "roses", "rulers", "scarves", "seeds", "shells",
    "shirts", "shoes", "socks", "spoons", "stamps", "stickers", "stones", "straws", "tickets", "tiles", "tomatoes",
    "toys", "tulips", "whistles",
]  # fmt: skip
PARTS = {
    2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth", 7: "a seventh", 8: "an eighth", 9: "a ninth",
    10: "a tenth",
}  # fmt: skip
NUMBERS = {
    "a": range(5, 100),  # amounts
    "b": range(5, 100),
    "g": range(50, 1000),  # goals
    "m": range(2, 13),  # groups, hours, prices: factors
    "n": range(2, 13),
    "k": range(2, 6),  # times as many
    "d": range(2, 11),  # parts
    "p": (5, 10, 20, 25, 30, 40, 50, 60, 75, 80),  # per cent
}


class Event(NamedTuple):
    """Something that happens to a quantity of the kind `of`, which then is of the kind `to`.

    `asks` is the question that follows from the event; only the last event of a story may have one.
    """

    of: str
    sentence: str
    lines: tuple[str, ...]
    to: str
    asks: str | None = None


OPENINGS = [
    Event("", "{name} fills {m} boxes with {a} {items} each", ("The boxes hold [x=m*a] {items}",), "items"),
    Event("", "{name} has {a} {items} at home and {b} at school", ("In all {name} has [x=a+b] {items}",), "items"),
    Event("", "{name} collects {a} {items} in May and {k} times as many in June",
          ("In June {name} collects [y=a*k] {items}", "In both months that is [x=a+y] {items}"), "items"),
    Event("", "{name} makes {a} {items} in the morning and {b} more than that in the afternoon",
          ("In the afternoon {name} makes [y=a+b] {items}", "On the whole day that is [x=a+y] {items}"), "items"),
    Event("", "{name} finds {a} {items} on the first day and {b} fewer than that on the second",
          ("On the second day {name} finds [y=a-b] {items}", "On both days that is [x=a+y] {items}"), "items"),
    Event("", "{name} buys {m} packs of {a} red {items} and {n} packs of {b} blue {items}",
          ("The red ones are [y=m*a] {items}", "The blue ones are [z=n*b] {items}", "Together that is [x=y+z] {items}"),
          "items"),
    Event("", "{name} makes {m} {items} an hour, {n} hours a day, {k} days long",
          ("In a day {name} makes [y=m*n] {items}", "In {k} days that is [x=y*k] {items}"), "items"),
    Event("", "{name} has {m} shelves, each with {n} rows of {d} {items}",
          ("A shelf holds [y=n*d] {items}", "All shelves hold [x=m*y] {items}"), "items"),
    Event("", "{name} works {m} hours a day, {n} days long, and earns ${d} an hour",
          ("That is [y=m*n] hours", "{name} earns [x=y*d] dollars"), "dollars"),
    Event("", "{name} saves ${a} a week for {m} weeks", ("{name} saves [x=a*m] dollars",), "dollars"),
    Event("", "{name} has ${a} and is given ${b} by an aunt", ("{name} then has [x=a+b] dollars",), "dollars"),
    Event("", "{name} earns ${a} on Saturday and {k} times as much on Sunday",
          ("On Sunday {name} earns [y=a*k] dollars", "On both days that is [x=a+y] dollars"), "dollars"),
    Event("", "{name} washes {m} cars for ${n} each and {k} vans for ${a} each",
          ("The cars bring [y=m*n] dollars", "The vans bring [z=k*a] dollars", "Together that is [x=y+z] dollars"),
          "dollars"),
    Event("", "{name} cycles {m} km an hour for {n} hours", ("{name} cycles [x=m*n] km",), "km"),
    Event("", "{name} walks {m} km to work and the same way back on each of {n} days",
          ("In a day {name} walks [y=m*2] km", "In {n} days that is [x=y*n] km"), "km"),
    Event("", "{name} drives {a} km on one day and {b} km farther than that on the next",
          ("On the next day {name} drives [y=a+b] km", "On both days that is [x=a+y] km"), "km"),
    Event("", "{name} drives at {a} km an hour for {m} hours", ("{name} drives [x=a*m] km",), "km"),
    Event("", "{name} reads {m} pages a day for {n} days", ("{name} reads [x=m*n] pages",), "pages"),
    Event("", "{name} reads {m} pages each morning and {n} pages each evening for {d} days",
          ("In a day {name} reads [y=m+n] pages", "In {d} days that is [x=y*d] pages"), "pages"),
    Event("", "{name} reads {a} pages in one week and {k} times as many in the next",
          ("In the next week {name} reads [y=a*k] pages", "In both weeks that is [x=a+y] pages"), "pages"),
    Event("", "{name} practises the drums {a} minutes a day for {m} days",
          ("{name} practises [x=a*m] minutes",), "minutes"),
    Event("", "{name} paints for {k} hours and {a} minutes",
          ("The hours are [y=k*60] minutes", "In all {name} paints [x=y+a] minutes"), "minutes"),
    Event("", "{name} solves {m} easy riddles in {n} minutes each and {k} hard ones in {a} minutes each",
          ("The easy ones take [y=m*n] minutes", "The hard ones take [z=k*a] minutes",
           "Together that is [x=y+z] minutes"), "minutes"),
]  # fmt: skip
EVENTS = [
    Event("items", "{name} buys {a} more {items}", ("Then {name} has [x=x+a] {items}",), "items"),
    Event("items", "{friend} gives {name} {a} {items}", ("With these {name} has [x=x+a] {items}",), "items"),
    Event("items", "{name} loses {a} of the {items}", ("After that {name} has [x=x-a] {items}",), "items"),
    Event("items", "{name} gives {a} {items} to {friend}", ("{name} keeps [x=x-a] {items}",), "items"),
    Event("items", "{name} gives {m} {items} to each of {n} neighbours",
          ("The neighbours get [y=m*n] {items}", "{name} keeps [x=x-y] {items}"), "items"),
    Event("items", "{name} buys {m} bags of {n} {items}",
          ("The bags hold [y=m*n] {items}", "Then {name} has [x=x+y] {items}"), "items"),
    Event("items", "{name} gives {part} of the {items} to {friend}",
          ("{friend} gets [y=x/d] {items}", "{name} keeps [x=x-y] {items}"), "items"),
    Event("items", "{name} keeps only {part} of the {items}", ("{name} keeps [x=x/d] {items}",), "items"),
    Event("items", "{name} throws away {p}% of the {items}, which are broken",
          ("Broken are [y=x*p/100] {items}", "Whole are [x=x-y] {items}"), "items"),
    Event("items", "A year later {name} has {k} times as many {items}", ("{name} then has [x=x*k] {items}",), "items"),
    Event("items", "For every {d} {items} the shop gives {name} one more for free",
          ("Free are [y=x/d] {items}", "Then {name} has [x=x+y] {items}"), "items"),
    Event("items", "Out of every {d} {items} {name} lends {k} to the school",
          ("That is [y=x/d] times", "{name} lends [z=y*k] {items}", "{name} keeps [x=x-z] {items}"), "items"),
    Event("items", "{name} sells all the {items} for ${m} each", ("{name} gets [x=x*m] dollars",), "dollars"),
    Event("items", "{name} packs the {items} into bags of {d}", ("{name} fills [x=x/d] bags",), "bags",
          "How many bags does {name} fill"),
    Event("items", "{name} shares the {items} equally among {m} children", ("A child gets [x=x/m] {items}",), "items",
          "How many {items} does a child get"),
    Event("items", "{friend} has {k} times as many {items} as {name}",
          ("{friend} has [y=x*k] {items}", "Together they have [x=x+y] {items}"), "items",
          "How many {items} do they have together"),
    Event("items", "{friend} has {a} fewer {items} than {name}",
          ("{friend} has [y=x-a] {items}", "Together they have [x=x+y] {items}"), "items",
          "How many {items} do they have together"),
    Event("items", "{friend} has {a} more {items} than {name}", ("{friend} has [x=x+a] {items}",), "items",
          "How many {items} does {friend} have"),
    Event("items", "{name} wants {g} {items} in all", ("Still missing are [x=g-x] {items}",), "items",
          "How many {items} does {name} still need"),
    Event("dollars", "{name} spends ${a} on a jacket", ("{name} has [x=x-a] dollars left",), "dollars"),
    Event("dollars", "{friend} pays {name} back ${a}", ("With that {name} has [x=x+a] dollars",), "dollars"),
    Event("dollars", "{name} buys {m} {items} for ${n} each",
          ("The {items} cost [y=m*n] dollars", "{name} has [x=x-y] dollars left"), "dollars"),
    Event("dollars", "{name} spends {part} of the money on a trip",
          ("The trip costs [y=x/d] dollars", "{name} has [x=x-y] dollars left"), "dollars"),
    Event("dollars", "{name} gives {p}% of the money to a shelter for dogs",
          ("The shelter gets [y=x*p/100] dollars", "{name} has [x=x-y] dollars left"), "dollars"),
    Event("dollars", "A bank adds {p}% interest to the money of {name}",
          ("The interest is [y=x*p/100] dollars", "Then {name} has [x=x+y] dollars"), "dollars"),
    Event("dollars", "{name} spends all the money on {items} at ${d} each", ("{name} gets [x=x/d] {items}",), "items"),
    Event("dollars", "{name} wants a tent for ${g}", ("Still missing are [x=g-x] dollars",), "dollars",
          "How many dollars does {name} still need"),
    Event("dollars", "{name} and {m} cousins share the money equally",
          ("They are [y=m+1] people", "Each gets [x=x/y] dollars"), "dollars", "How many dollars does each get"),
    Event("dollars", "{friend} has {k} times as much money as {name}", ("{friend} has [x=x*k] dollars",), "dollars",
          "How many dollars does {friend} have"),
    Event("km", "After a rest {name} goes on for {a} km", ("{name} has then gone [x=x+a] km",), "km"),
    Event("km", "{name} goes on by bus for {m} hours at {a} km an hour",
          ("The bus goes [y=m*a] km", "In all that is [x=x+y] km"), "km"),
    Event("km", "{name} makes this trip {k} times", ("{name} then goes [x=x*k] km",), "km"),
    Event("km", "A closed bridge makes the way {p}% longer",
          ("The bridge adds [y=x*p/100] km", "The way is [x=x+y] km"), "km"),
    Event("km", "{name} then finds a short cut that saves {a} km", ("The way is now [x=x-a] km",), "km"),
    Event("km", "The whole tour is {g} km long", ("There are [x=g-x] km left",), "km",
          "How many km does {name} have left"),
    Event("km", "{name} uses one litre of fuel for every {d} km", ("{name} uses [x=x/d] litres",), "litres",
          "How many litres of fuel does {name} use"),
    Event("km", "{friend} goes {part} of that distance", ("{friend} goes [x=x/d] km",), "km",
          "How many km does {friend} go"),
    Event("pages", "On a long train ride {name} reads {a} pages more", ("{name} has then read [x=x+a] pages",),
          "pages"),
    Event("pages", "{name} then reads {m} pages an hour for {n} hours",
          ("In these hours {name} reads [y=m*n] pages", "In all that is [x=x+y] pages"), "pages"),
    Event("pages", "In the holidays {name} reads {k} times as many pages",
          ("In the holidays {name} reads [y=x*k] pages", "In all that is [x=x+y] pages"), "pages"),
    Event("pages", "The next book has as many pages again, and {name} skips {p}% of them",
          ("{name} skips [y=x*p/100] pages", "{name} reads [z=x-y] more pages", "In all that is [x=x+z] pages"),
          "pages"),
    Event("pages", "The novel of {name} has {g} pages", ("There are [x=g-x] pages left",), "pages",
          "How many pages does {name} have left"),
    Event("pages", "The novel has {g} pages, and {name} reads {d} of the rest each day",
          ("There are [y=g-x] pages left", "They take [x=y/d] days"), "days", "How many days does the rest take"),
    Event("pages", "{friend} reads {part} of that", ("{friend} reads [x=x/d] pages",), "pages",
          "How many pages does {friend} read"),
    Event("minutes", "{name} needs {a} minutes more to clean up", ("With that it is [x=x+a] minutes",), "minutes"),
    Event("minutes", "A new tool saves {name} {a} minutes", ("With the tool it is [x=x-a] minutes",), "minutes"),
    Event("minutes", "{name} does all of it {k} times", ("That is [x=x*k] minutes",), "minutes"),
    Event("minutes", "With help {name} takes {p}% less time",
          ("The help saves [y=x*p/100] minutes", "With help it is [x=x-y] minutes"), "minutes"),
    Event("minutes", "{name} takes {m} breaks of {n} minutes",
          ("The breaks are [y=m*n] minutes", "With them it is [x=x+y] minutes"), "minutes"),
    Event("minutes", "{name} spreads the time equally over {d} days", ("In a day it is [x=x/d] minutes",), "minutes",
          "How many minutes a day is that"),
    Event("minutes", "{friend} takes {k} times as long", ("{friend} takes [x=x*k] minutes",), "minutes",
          "How many minutes does {friend} take"),
    Event("minutes", "{friend} takes {part} of that time", ("{friend} takes [x=x/d] minutes",), "minutes",
          "How many minutes does {friend} take"),
]  # fmt: skip
QUESTIONS = {
    "items": "How many {items} does {name} have now",
    "dollars": "How many dollars does {name} have now",
    "km": "How many km is that in all",
    "pages": "How many pages is that in all",
    "minutes": "How many minutes is that in all",
}
# Sentences with a number that the question does not ask for.
ASIDES = [
    "{friend} is {a} years old",
    "{name} lives in a house with {n} windows",
    "The bus to town leaves every {m} minutes",
    "{friend} has {k} sisters",
    "It has rained for {d} days",
    "The school of {name} has {g} pupils",
    "{friend} paid ${a} for new shoes",
    "The dog of {friend} weighs {b} pounds",
    "{name} has been up since {m} o'clock",
    "The town has {n} parks and {k} pools",
]
