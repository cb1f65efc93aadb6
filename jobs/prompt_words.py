"""The words that fill the fields of the prompt templates, in English and Spanish.

Why these shapes: every word of a pool fits every template that names the pool. People, objects and places carry their
article or preposition and actions stand in the past tense, so that Spanish needs no agreement between fields.

    POOLS["es"].person      # ("la bibliotecaria", "un piloto jubilado", ...)
"""

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split("/"))


_NUMBERS = tuple(str(number) for number in range(3, 1000))

_VERBS = _words("""count / merge / parse / filter / rank / split / load / group / trim / score / scan / pack / shift /
    clamp / resolve / collect / update / reduce / validate / balance / schedule / estimate / encode / rotate""")

_NOUNS = _words("""orders / tickets / samples / routes / prices / readings / pages / batches / tokens / users / events /
    rows / signals / payments / labels / shipments / scores / frames / queues / invoices / sensors / votes / edges /
    versions / messages / permits""")


@dataclass(frozen=True, slots=True)
class Pools:
    """One tuple of interchangeable words for each field that a template may use."""

    person: tuple[str, ...]
    action: tuple[str, ...]
    object: tuple[str, ...]
    place: tuple[str, ...]
    time: tuple[str, ...]
    reason: tuple[str, ...]
    verb: tuple[str, ...] = _VERBS
    noun: tuple[str, ...] = _NOUNS
    number: tuple[str, ...] = _NUMBERS


_ENGLISH = Pools(
    person=_words("""the librarian / a retired pilot / the night nurse / our new neighbour / the bridge engineer /
        a young violinist / the harbour master / my older sister / the baker / a travelling judge / the botanist /
        the ferry captain / an apprentice carpenter / the town clerk / a radio reporter / the goalkeeper / her uncle /
        the chemistry teacher / a visiting surgeon / the beekeeper / the mayor / a bus driver / the archivist"""),
    action=_words("""repaired / counted / borrowed / painted / sold / inspected / described / photographed / misplaced /
        weighed / inherited / catalogued / returned / measured / dismantled / labelled / delivered / examined / hid /
        polished / drew / auctioned / replaced / registered"""),
    object=_words("""the copper kettle / an old map / two wooden boats / the tall clock / a crate of lemons /
        the broken turbine / a letter from Lisbon / the wool blankets / a box of seeds / the silver trumpet /
        the weather records / a blue bicycle / the glass lanterns / the tax ledger / a bag of wet cement /
        the spare keys / an unfinished novel / the solar panels / a pair of scales / the marble steps /
        the water samples / a recipe for bread / the railway signal / the winter coats"""),
    place=_words("""near the old station / in the harbour / behind the theatre / on the third floor / at the market /
        beside the canal / in a village without trams / under the stone bridge / at the edge of the forest /
        in the university cellar / across the border / on the island of Tarn / outside the post office /
        by the lighthouse / in the botanical garden / at the customs house / along the ring road / in the high valley /
        next to the bakery / inside the empty swimming pool"""),
    time=_words("""early on Monday / before the storm / during the strike / late last autumn / at noon /
        after the concert / in the first week of May / while everyone slept / on the shortest day / a year later /
        just after sunrise / between two meetings / at the end of the season / shortly before dinner /
        in the middle of the exam / on a warm evening / when the lights came back / during the long drought"""),
    reason=_words("""because the insurance had expired / since nobody else had volunteered /
        in order to win a small bet / although the manual advised against it / because the rain would not stop /
        to please a difficult customer / even though it cost a fortune / since the contract required it /
        so that the children could watch / without asking for permission / because two numbers did not agree /
        hoping to avoid a second visit / as a favour to an old friend / despite a heavy cold /
        because the spare part came from abroad / to find out who was right"""),
)

_SPANISH = Pools(
    person=_words("""la bibliotecaria / un piloto jubilado / la enfermera de noche / nuestro nuevo vecino /
        la ingeniera / un joven violinista / el capitán del puerto / mi hermana mayor / el panadero /
        una jueza de paso / el botánico / la capitana del ferry / un aprendiz de carpintero / la secretaria municipal /
        un periodista de radio / el portero del equipo / su tío / la profesora de química / una cirujana extranjera /
        el apicultor / la alcaldesa / un conductor de autobús / la archivera"""),
    action=_words("""reparó / contó / tomó / pintó / vendió / revisó / describió / fotografió / extravió /
        pesó / heredó / catalogó / devolvió / midió / desmontó / etiquetó / entregó / examinó / escondió / limpió /
        dibujó / subastó / cambió / registró"""),
    object=_words("""el hervidor de cobre / un mapa antiguo / dos barcas de madera / el reloj de pared /
        una caja de limones / la turbina averiada / una carta de Lisboa / las mantas de lana / una bolsa de semillas /
        la trompeta de plata / los registros del tiempo / una bicicleta azul / los faroles de vidrio /
        el libro de impuestos / un saco de cemento mojado / las llaves de repuesto / una novela sin terminar /
        los paneles solares / un par de balanzas / los escalones de mármol / las muestras de agua / una receta de pan /
        la señal del ferrocarril / los abrigos de invierno"""),
    place=_words("""cerca de la vieja estación / en el puerto / detrás del teatro / en el tercer piso / en el mercado /
        junto al canal / en un pueblo sin tranvías / bajo el puente de piedra / al borde del bosque /
        en el sótano de la universidad / al otro lado de la frontera / en la isla de Tarn / frente a Correos /
        al pie del faro / en el jardín botánico / en la aduana / a lo largo de la avenida / en el valle alto /
        al lado de la panadería / dentro de la piscina vacía"""),
    time=_words("""el lunes temprano / antes de la tormenta / durante la huelga / a finales de otoño / a mediodía /
        después del concierto / en la primera semana de mayo / mientras todos dormían / en el día más corto /
        un año después / justo al amanecer / entre dos reuniones / al terminar la temporada / poco antes de cenar /
        en mitad del examen / una tarde calurosa / cuando volvió la luz / durante la larga sequía"""),
    reason=_words("""porque el seguro había caducado / ya que nadie más se ofreció / para ganar una pequeña apuesta /
        aunque el manual lo desaconsejaba / porque la lluvia no cesaba / para contentar a un cliente difícil /
        pese a que costaba una fortuna / ya que el contrato lo exigía / para que los niños pudieran mirar /
        sin pedir permiso / porque dos cifras no coincidían / con la esperanza de evitar otra visita /
        como favor a una vieja amiga / a pesar de un fuerte resfriado / porque el repuesto venía del extranjero /
        para averiguar quién tenía razón"""),
)

POOLS = {"en": _ENGLISH, "es": _SPANISH}
