"""El informe en español. Los mismos nombres y huecos que en.py."""

TEXTS = {
    "html_lang": "es",
    "skip": "Saltar a las respuestas",
    "report_of": "Informe de {sweep}",
    "lead": "{ok} de {cells} celdas medidas en {devices}; {models}.",
    "lead_part": "Una parte de la ejecución: {cells} de {asked} celdas; las demás aún no se han ejecutado. ",
    "lead_suspect": " No es válida según su propio veredicto ({reasons}): mídala otra vez antes de confiar en ella.",
    "line_suspect": " (Velocidades no válidas: {reasons}.)",
    "nav_answers": "Respuestas",
    "nav_figures": "Figuras",
    "nav_failures": "Sin resultado",
    "nav_cells": "Todas las celdas",
    "nav_methods": "Métodos",
    "nav_environment": "Entorno",
    "question_cache": "¿Qué aporta la caché KV al decodificar?",
    "question_four_bit": "¿Vale la pena 4 bits en producción?",
    "question_sweet_spot": "¿Dónde está el punto óptimo?",
    "caveats": "Antes de citar estas cifras",
    "where": "{model}, motor {engine}, {device}: ",
    # La caché KV
    "cache_faster": "{where}con la caché KV, decodificar a {context} tokens es {gain}× tan rápido: {on} "
    "tokens/s frente "
    "a {off} ({precision}, lote {batch}).",
    "cache_same": "{where}a {context} tokens la caché KV apenas cambia nada: {on} tokens/s frente a {off}, {gain}× "
    "({precision}, lote {batch}).",
    "cache_slower": "{where}a {context} tokens la caché KV cuesta velocidad: {on} tokens/s frente a {off}, {gain}× "
    "({precision}, lote {batch}).",
    "cache_unsure": "{where}a {context} tokens no se ha demostrado que la caché KV cambie la velocidad: {on} tokens/s "
    "frente a {off}, {gain}×, con intervalos del 95 % que se solapan ({precision}, lote {batch}).",
    "cache_grows": "La ganancia crece con el contexto: {first}× a {from_context} tokens, {last}× a {to_context}.",
    "cache_flat": "La ganancia no crece aquí: {first}× a {from_context} tokens, {last}× a {to_context}.",
    "cache_always": "Compensa en todas las longitudes medidas.",
    "cache_never": "No compensa en ninguna longitud medida.",
    "cache_from": "Compensa a partir de unos {context} tokens, leído entre dos longitudes medidas.",
    "cache_memory": "A {context} tokens ocupa {kv} GB de memoria, el {share} % de los {weights} GB de los pesos.",
    "cache_failed": "Sin la caché, {failed} de {cells} celdas no dieron cifra ({statuses}).",
    "cache_nothing": "Esta ejecución no tiene dos celdas que solo difieran en la caché KV: no puede decirlo.",
    # 4 bits
    "four_yes": "{where}sí. {precision} es más rápido que {baseline}, más pequeño, y queda dentro del 5 % de calidad.",
    "four_memory": "{where}solo donde la memoria es el límite. {precision} es más pequeño que {baseline}, pero "
    "decodifica más despacio.",
    "four_quality": "{where}así no. {precision} pierde más de un 5 % de perplejidad frente a {baseline}.",
    "four_no": "{where}no. {precision} no ahorra memoria frente a {baseline}.",
    "four_open": "{where}velocidad y memoria dicen: {verdict}. La calidad queda abierta: esta ejecución no midió "
    "perplejidad con que comparar.",
    "four_open_yes": "sí",
    "four_open_memory": "solo donde la memoria es el límite",
    "four_figures": "{precision} frente a {baseline} a {context} tokens, lote {batch}: {parts}.",
    "four_speed": "{ratio}× la velocidad de decodificación ({own} frente a {base} tokens/s)",
    "four_prefill": "{ratio}× el tiempo del prompt ({own} frente a {base} ms)",
    "four_size": "{ratio}× la memoria ({own} frente a {base} GB, {measure})",
    "four_quality_part": "{percent} % de perplejidad ({own} frente a {base})",
    "four_launch": "Aquí el tiempo por token es del procesador anfitrión, que reparte el trabajo token a token: menos "
    "bytes no pueden ayudar en este motor, y sí en uno que no esté limitado por los lanzamientos.",
    "four_nothing": "Esta ejecución no midió una precisión de 4 bits junto a una de referencia: no puede decirlo.",
    "four_failed": "{precision} no dio cifra: {status}, {reason}.",
    "peak_allocated": "pico del dispositivo",
    "weights_and_kv": "pesos y caché KV",
    # El punto óptimo
    "spot_lead": "{where}{name}: {speed} tokens/s en {memory} GB{quality}, a {context} tokens y lote {batch}. Da el "
    "máximo de tokens por segundo y gigabyte entre lo que nada supera{within}.",
    "spot_alone": "{where}{name} es la única configuración medida con caché KV: {speed} tokens/s en {memory} GB a "
    "{context} tokens y lote {batch}. No hay con qué compararla.",
    "spot_within": " y que queda dentro del 5 % de calidad",
    "spot_quality": ", perplejidad {percent} %",
    "spot_base_quality": ", la perplejidad de referencia",
    "spot_fastest": "El más rápido es {name} con {speed} tokens/s, el más pequeño {small} con {memory} GB.",
    "spot_beaten": "Otro es al menos igual de bueno en todo y mejor en algo que: {names}.",
    "spot_no_quality": "La calidad no cuenta aquí: no todas las filas tienen perplejidad.",
    "spot_outside": "Nada de lo no superado queda dentro del 5 % de calidad: no hay punto óptimo que nombrar.",
    "spot_batch": "El mayor rendimiento es el de {name} con lote {batch}: {speed} tokens/s en total.",
    "spot_nothing": "Ninguna celda con caché KV tiene a la vez velocidad y memoria: no puede decirlo.",
    # farm advise
    "advise_choice": "{where}elija {name}: {speed} tokens/s en {memory} GB{quality}, a {context} tokens y lote "
    "{batch}. Es la más rápida de {fit} configuraciones dentro de los límites, de {count} medidas.",
    "advise_next": "La siguiente es {name}: {speed} tokens/s en {memory} GB{quality}.",
    "advise_not_measured": "No se midió nada con caché KV a esta longitud y lote; hay prompts de {contexts} tokens y "
    "lotes de {batches}.",
    "advise_none": "{where}nada de lo medido a {context} tokens y lote {batch} queda dentro de los límites.",
    "advise_out": "{name} queda fuera: {reasons}.",
    "advise_memory": "necesita {memory} GB y el límite es {limit}",
    "advise_loss": "pierde un {percent} % de perplejidad y el límite es un {limit} %",
    "advise_unknown": "su pérdida de perplejidad no se midió",
    "within_engine": "{precision} en {engine}",
    "within_mode": "{name}, caché {mode}",
    # Advertencias
    "caveat_fake": "Los tiempos del motor «fake» son inventados: esto es una prueba y no una medición.",
    "caveat_suspect": "{count} de {cells} celdas de velocidad no son válidas según su propio veredicto ({reasons}); se "
    "dibujan huecas, y sus cifras pueden no ser las de la configuración.",
    "caveat_launch": "En {count} de {cells} celdas de velocidad, lanzar los kernels desde el anfitrión ocupa casi todo "
    "el tiempo de un token (launch_bound): dicen lo rápido que es el motor, no lo que podría la precisión.",
    "caveat_power": "En {count} de {cells} celdas de velocidad la tarjeta estaba en su límite de potencia de fábrica y "
    "por debajo de su frecuencia máxima (power_bound): otra igual difiere en un pequeño porcentaje.",
    "caveat_set_aside": "En {count} de {cells} celdas de velocidad se apartaron ejecuciones, {trials} en total: a su "
    "lado el anfitrión tardó más de {limit} veces lo mínimo en un trabajo fijo. Cuenta la velocidad propia del "
    "anfitrión; uno más ocupado es más lento.",
    "caveat_random": "{models}: pesos aleatorios. Velocidad y memoria son las de la forma del modelo real; la calidad "
    "no existe y no se muestra.",
    "caveat_demo": "El texto de perplejidad es el breve texto de demostración ({tokens} tokens): sirve para comparar "
    "dentro de esta ejecución, no con cifras publicadas.",
    "caveat_few": "{count} celdas de velocidad tienen menos de 10 repeticiones: sus intervalos son anchos o faltan.",
    "caveat_cpu": "Medido en una CPU: las razones entre precisiones no se trasladan a una GPU.",
    "caveat_failed": "{count} de {cells} celdas no dieron cifra; cada una está abajo con su motivo.",
    "caveat_batches": "Las figuras de esta página muestran el lote más pequeño de cada modelo; las de todos los lotes "
    "están en figures/ y benchmarks/, a su lado.",
    "caveat_none": "Ninguna de las habituales se aplica: todas las celdas terminaron bien y son válidas.",
    # Secciones
    "summary": "Resumen",
    "more_figures": "Más figuras",
    "in_words": "En palabras",
    "failures_title": "Qué no dio cifra, y por qué",
    "failures_none": "Todas las celdas terminaron bien.",
    "cells_title": "Todas las celdas",
    "filter": "Filtrar",
    "filter_hint": "p. ej. nf4 2048",
    "filter_status": "Estado",
    "all": "todos",
    "valid_only": "ok y válidas",
    "shown": "{shown} de {cells} celdas",
    "sort_hint": "Cada título de columna es un botón que ordena.",
    "scroll_hint": "El contenido ancho se desplaza dentro de su marco.",
    "cell": "Celda",
    "reason": "Motivo",
    "key": "Clave",
    "columns": "Modelo|Precisión|Motor|Dispositivo|Caché|Contexto|Lote|Decodif. tok/s|Intervalo 95 %|TTFT ms|"
    "Prefill ms|"
    "Pico GB|PPL|Cambio PPL %|vs referencia|Límite/medido|J/token|Estado|Veredicto",
    "methods_title": "Métodos",
    "environment_title": "Entorno",
    "environment_cells": "{cells} celdas",
    "generated": "Escrito por farm {version} solo a partir de los registros de la ejecución; los mismos "
    "registros dan la "
    "misma página.",
    # Métodos
    "method_runs": "Cada celda de velocidad: {warmups} ejecuciones de calentamiento de la misma forma y después {runs} "
    "cronometradas (más, hasta {max_runs}, mientras el intervalo sea ancho) de {new_tokens} tokens generados, voraz, "
    "con prompts de exactamente los tokens indicados.",
    "method_times": "TTFT: desde el inicio de la pasada del prompt hasta su primer token. Prefill: esa pasada. Tiempo "
    "por token: (total − TTFT) / (tokens − 1). Tokens/s al decodificar: el lote dividido por él.",
    "method_stats": "Se muestran medianas. El intervalo del 95 % es un bootstrap por percentiles de la mediana con "
    "2,000 remuestreos, con tantas muestras como deja su autocorrelación; las razones son razones de medianas.",
    "method_memory": "GB son 1e9 bytes. Pico: lo máximo que tuvo el asignador del dispositivo durante las ejecuciones; "
    "en una CPU ningún asignador lo dice, y en su lugar están los pesos más la caché KV.",
    "method_quality": "Perplejidad: {protocols}. El cambio es frente a la fila de 16 bits (32 si no la hay) del mismo "
    "modelo con el mismo texto; más de un 5 % cuenta como pérdida.",
    "method_verdict": "Veredictos: una celda de velocidad no es válida si su intervalo del 95 % supera el 20 % de la "
    "mediana (10 % a cada lado), si los relojes se redujeron, otros usaron el dispositivo, la salida fue corta, las "
    "primeras ejecuciones fueron en frío, el anfitrión iba lento donde él es el límite o se ejecutó otro kernel que el "
    "pedido.",
    "method_limit": "El límite físico: los bytes y FLOP que una fase debe mover y hacer como mínimo, sobre el ancho de "
    "banda y el ritmo de producto de matrices medidos en el dispositivo (modelo roofline).",
    "method_busy": "Los dispositivos estuvieron ocupados un {share} %: del tiempo de {slots}, desde el inicio del "
    "primer grupo hasta el final del último, los procesos de {groups} grupos estuvieron trabajando.",
    "method_canary": "Sin interferencia: {cell} se midió sola y otra vez mientras {beside} grupos más trabajaban en su "
    "máquina. Su tiempo por token cambió {decode}, su prefill {prefill} (medianas, intervalo del 95 %).",
    "method_undisturbed": "No supera con certeza el {limit} %, así que valen las cifras medidas en paralelo.",
    "method_disturbed": "Supera con certeza el {limit} %: lo medido junto a otros grupos se marca contended "
    "(si la celda depende de los lanzamientos: lo que espera al anfitrión como ella).",
    "method_no_canary": "No se comprobó si los grupos que trabajan a la vez se estorban: {reason}.",
    "method_front": "El frente: filas que ninguna otra supera a la vez en velocidad, memoria y (si todas la tienen) "
    "perplejidad.",
    # Lo esperado junto a lo medido
    "expected_fp16": "FP16: 40–50 tokens/s",
    "expected_int8": "INT8: 75–90 tokens/s",
    "expected_4bit": "4 bits: 110–130 tokens/s",
    "expected_no_cache": "sin caché KV: menos de 5 tokens/s",
    "expected_ppl": "perplejidad: como mucho un 5 % peor",
    "expected_compile": "`torch.compile`: +15 %",
    "below": "por debajo",
    "within": "como se esperaba",
    "above": "por encima",
    "why_suspect": "**no válida según su propio veredicto ({verdict})**",
    "why_recompute": "cada token vuelve a pasar por los {context} tokens y los que siguen",
    "why_host": "el anfitrión tarda el {share} % del tiempo de un token en repartir el trabajo: los bits no importan",
    "why_bytes": "lee al {mbu} % del ancho de banda medido; al 100 % serían {limit} tokens/s",
    "why_unknown": "no se midieron los límites del dispositivo",
    "why_agreement": "KL {kl} nats por token, la misma primera opción en el {top1} %",
}
