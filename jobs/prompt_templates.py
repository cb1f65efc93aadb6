"""The sentences that synthetic prompts are made of, in English and Spanish.

Why templates and not a corpus: any length can be filled, nothing has to be downloaded, and the text still tokenises
like ordinary text (about four characters a token), which random ids would not.

A sentence is a template whose fields name pools of words; a digit after a name asks for a second, separate draw, a
capital for a word that starts a sentence:

    wording("chat", "en").sentences[0]      # "User: ... {person} ... {object} ... {place} ..."
"""

from dataclasses import dataclass
from functools import cache

from farm.catalog import LANGUAGES
from farm.catalog import PROMPT_KINDS as KINDS
from jobs.prompt_words import POOLS, Pools

__all__ = ["KINDS", "LANGUAGES", "Wording", "wording"]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\n") for part in text.split("|"))


def _turns(questions: str, answers: str) -> str:
    """Every question with every answer; shared fields make the two speak of the same thing."""
    return "|".join(f"{question}\n{answer}" for question in _split(questions) for answer in _split(answers))


_SEPARATORS = {"chat": ("\n",), "code": ("\n\n\n",), "summary": (" ", " ", " ", " ", "\n\n")}


@dataclass(frozen=True, slots=True)
class Wording:
    """All that one kind of prompt needs in one language."""

    instruction: str
    closing: str
    sentences: tuple[str, ...]
    separators: tuple[str, ...]  # drawn between sentences: a repeated entry is a likelier one
    pools: Pools


@cache
def wording(kind: str, language: str) -> Wording:
    """The material of one of KINDS in one of LANGUAGES; KeyError for any other pair."""
    instruction, closing, sentences = _TEXTS[kind, language]
    return Wording(instruction, closing, _split(sentences), _SEPARATORS[kind], POOLS[language])


_CHAT_EN = _turns(
    """User: I heard that {person} {action} {object} {place} {reason}. Is that usual?|
User: My own notes say {number} visits, not {number2}. Could {person} have been mistaken about {object}?|
User: And what if {person} {action} {object} {reason}?|
User: {Time}, {person} told me to wait {number} minutes {place}. I waited and saw only {object}.|
User: Please keep in mind that {person} has no key, and that all of it weighs {number} kilos.""",
    """Assistant: It can happen. Elsewhere {person2} {action} {object} {time}, and the bill came to {number3} euros.|
Assistant: Perhaps. Anyone who had seen {object} {place} would have noticed it {time}.|
Assistant: Then I would write down who {action} {object}, who was {place}, and why it took {number3} days.|
Assistant: That fits what you said about {object}; besides, {person2} {action2} {object2} {time2}.|
Assistant: Noted. Then {person} must ask {person2}, who {action2} {object2} {place2}.""",
)

_CHAT_ES = _turns(
    """Usuario: Me dijeron que {person} {action} {object} {place} {reason}. ¿Es lo habitual?|
Usuario: Mis notas dicen {number} visitas, no {number2}. ¿Se habrá confundido {person} con {object}?|
Usuario: ¿Y si {person} {action} {object} {reason}?|
Usuario: Según {person}, había que esperar {number} minutos {place}. Esperé y vi solamente {object}.|
Usuario: Ten en cuenta que {person} no tiene llave y que todo junto pesa {number} kilos.""",
    """Asistente: Puede ocurrir. Otra vez {person2} {action} {object} {time}, y la factura subió a {number3} euros.|
Asistente: Tal vez. Quien hubiera visto {object} {place} se habría dado cuenta {time}.|
Asistente: Entonces yo apuntaría quién {action} {object}, quién estaba {place} y por qué tardó {number3} días.|
Asistente: Encaja con lo que contaste sobre {object}; además, {person2} {action2} {object2} {time2}.|
Asistente: Anotado. Entonces {person} debe preguntar por {person2}, que {action2} {object2} {place2}.""",
)

_SUMMARY_EN = """{Person} {action} {object} {place} {reason}.|
{Time}, {person} {action} {object}, and {number} people came to look.|
It was {person} who {action} {object} {time}; {person2} only {action2} {object2}.|
The report gives {number} lines to {object} and {number2} to {object2}.|
A witness said that {person} {action} {object} {place}, {reason}.|
Nothing more was heard until {person} {action} {object} {time}.|
The price of {object} rose from {number} to {number2} crowns, and {person} {action} {object2} {reason}.|
What {person} found {place} was not {object} but {object2}, covered in dust.|
For {number} days {person} lived {place} and {action} {object} every afternoon.|
According to the minutes, {person} and {person2} met {place} {time} to talk about {object}.|
The committee, {number} members strong, asked why {person} {action} {object} {time}.|
Meanwhile {person} {action} {object} {place}, {number} kilometres away."""

_SUMMARY_ES = """{Time}, {person} {action} {object} {place} {reason}.|
Aquel día {person} {action} {object}, y {number} personas acudieron a mirar.|
Fue {person} quien {action} {object} {time}; {person2} solo {action2} {object2}.|
El informe dedica {number} líneas a comentar {object} y {number2} a describir {object2}.|
Un testigo declaró que {person} {action} {object} {place}, {reason}.|
No se supo nada más hasta que {person} {action} {object} {time}.|
El precio pasó de {number} a {number2} coronas, y {person} {action} {object} {reason}.|
Lo que {person} encontró {place} no era lo esperado: {object} y, debajo, {object2}.|
Durante {number} días {person} vivió {place} y habló sobre {object} cada tarde.|
Según el acta, {person} y {person2} se reunieron {place} {time} para hablar sobre {object}.|
La comisión, de {number} miembros, preguntó por qué {person} {action} {object} {time}.|
Mientras tanto {person} {action} {object} {place}, a {number} kilómetros de allí."""

_CODE = """def {verb}_{noun}({noun}, limit={number}):
    # NOTE
    kept = [item for item in {noun} if item.value > limit]
    return sorted(kept, key=lambda item: item.{noun2})|
def {verb}_{noun}_by_{noun2}({noun}, {noun2}):
    # NOTE
    total = 0
    for left, right in zip({noun}, {noun2}):
        total += {number} * left - right // {number2}
    return total|
class {noun}_buffer:
    # NOTE
    def __init__(self, capacity={number}):
        self.{noun} = []
        self.capacity = capacity

    def {verb2}(self, item):
        if len(self.{noun}) >= self.capacity:
            raise OverflowError("too many {noun}")
        self.{noun}.append(item)|
def {verb}_next_{noun}(queue, seen=frozenset()):
    # NOTE
    while queue and queue[0] in seen:
        queue.pop(0)
    return queue[:{number}] or None|
def test_{verb}_{noun}_{number}():
    # NOTE
    result = {verb}_{noun}(range({number}), {number2})
    assert len(result) <= {number2}, "{verb} lost some {noun}"|
def {verb}_{noun}_file(path, skip={number}):
    # NOTE
    with open(path, encoding="utf-8") as lines:
        {noun} = [line.split(",") for line in lines][skip:]
    return {verb2}_{noun2}({noun})"""

_NOTE_EN = "{Person} {action} {object} {place}, hence the limit of {number}."
_NOTE_ES = "{Person} {action} {object} {place}; de ahí el límite de {number}."

_TEXTS = {
    ("chat", "en"): (
        "Read this conversation and answer the last question as the assistant.\n\n",
        "\n\nUser: Given all of the above, what should I do first, and why?\nAssistant:",
        _CHAT_EN,
    ),
    ("chat", "es"): (
        "Lee esta conversación y responde a la última pregunta como asistente.\n\n",
        "\n\nUsuario: Con todo lo anterior, ¿qué debería hacer primero y por qué?\nAsistente:",
        _CHAT_ES,
    ),
    ("code", "en"): (
        "Review the following Python module.\n\n",
        "\n\n# End of the module. Explain what it does and name its most serious defect:\n",
        _CODE.replace("NOTE", _NOTE_EN),
    ),
    ("code", "es"): (
        "Revisa el siguiente módulo de Python.\n\n",
        "\n\n# Fin del módulo. Explica qué hace y señala su defecto más grave:\n",
        _CODE.replace("NOTE", _NOTE_ES),
    ),
    ("summary", "en"): (
        "Read the passage below; a summary will be asked for at the end.\n\n",
        "\n\nSummarise the passage above in five sentences.\nSummary:",
        _SUMMARY_EN,
    ),
    ("summary", "es"): (
        "Lee el texto siguiente; al final se pedirá un resumen.\n\n",
        "\n\nResume el texto anterior en cinco frases.\nResumen:",
        _SUMMARY_ES,
    ),
}
