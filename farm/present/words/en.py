"""The report in English. Placeholders are filled by farm.present.sentences; es.py has the same names."""

TEXTS = {
    "html_lang": "en",
    "skip": "Skip to the answers",
    "report_of": "Report of {sweep}",
    "lead": "{ok} of {cells} cells measured on {devices}; {models}.",
    "lead_part": "A part of the run: {cells} of {asked} cells; the others have not been run yet. ",
    "lead_suspect": " Not valid by its own verdict ({reasons}): measure it again before you rely on it.",
    "line_suspect": " (Speeds not valid: {reasons}.)",
    "nav_answers": "Answers",
    "nav_figures": "Figures",
    "nav_failures": "Not ok",
    "nav_cells": "All cells",
    "nav_methods": "Methods",
    "nav_environment": "Environment",
    "question_cache": "What does the KV cache buy in decode?",
    "question_four_bit": "Is 4-bit worth it in production?",
    "question_sweet_spot": "Where is the sweet spot?",
    "caveats": "Before you quote these figures",
    "where": "{model}, {engine} engine, {device}: ",
    # The KV cache
    "cache_faster": "{where}with the KV cache, decoding at {context} tokens is {gain}× as fast: {on} tokens/s against "
    "{off} ({precision}, batch {batch}).",
    "cache_same": "{where}at {context} tokens the KV cache makes no difference to speak of: {on} tokens/s against "
    "{off}, {gain}× ({precision}, batch {batch}).",
    "cache_slower": "{where}at {context} tokens the KV cache costs speed: {on} tokens/s against {off}, {gain}× "
    "({precision}, batch {batch}).",
    "cache_unsure": "{where}at {context} tokens the KV cache was not shown to change the speed: {on} tokens/s against "
    "{off}, {gain}×, with 95 % intervals that overlap ({precision}, batch {batch}).",
    "cache_grows": "The gain grows with the context: {first}× at {from_context} tokens, {last}× at {to_context}.",
    "cache_flat": "The gain does not grow here: {first}× at {from_context} tokens, {last}× at {to_context}.",
    "cache_always": "It pays at every length measured.",
    "cache_never": "It pays at no length measured.",
    "cache_from": "It pays from about {context} tokens on, read off between two measured lengths.",
    "cache_memory": "At {context} tokens it takes {kv} GB of memory, {share} % of the weights' {weights} GB.",
    "cache_failed": "Without the cache {failed} of {cells} cells gave no figure ({statuses}).",
    "cache_nothing": "This run holds no two cells that differ in the KV cache alone, so it cannot say.",
    # 4-bit
    "four_yes": "{where}yes. {precision} is faster than {baseline}, smaller, and within the 5 % line of quality.",
    "four_memory": "{where}only where memory is the limit. {precision} is smaller than {baseline}, but decodes slower.",
    "four_quality": "{where}not as it is. {precision} loses more than 5 % of perplexity against {baseline}.",
    "four_no": "{where}no. {precision} saves no memory against {baseline}.",
    "four_open": "{where}speed and memory say {verdict}, quality is open: this run measured no perplexity to compare.",
    "four_open_yes": "yes",
    "four_open_memory": "only where memory is the limit",
    "four_figures": "{precision} against {baseline} at {context} tokens, batch {batch}: {parts}.",
    "four_speed": "{ratio}× the decode speed ({own} against {base} tokens/s)",
    "four_prefill": "{ratio}× the prompt time ({own} against {base} ms)",
    "four_size": "{ratio}× the memory ({own} against {base} GB, {measure})",
    "four_quality_part": "{percent} % perplexity ({own} against {base})",
    "four_launch": "Decode time here is the host's, which hands out the work token by token: fewer bytes cannot help "
    "on this engine, and would on one that is not bound by launches.",
    "four_nothing": "This run measured no 4-bit precision beside a baseline, so it cannot say.",
    "four_failed": "{precision} gave no figure: {status}, {reason}.",
    "peak_allocated": "device peak",
    "weights_and_kv": "weights and KV cache",
    # The sweet spot
    "spot_lead": "{where}{name}: {speed} tokens/s in {memory} GB{quality}, at {context} tokens and batch {batch}. It "
    "gives the most tokens per second and gigabyte of all that nothing beats{within}.",
    "spot_alone": "{where}{name} is the only configuration measured with a KV cache: {speed} tokens/s in {memory} GB "
    "at {context} tokens and batch {batch}. There is nothing to weigh it against.",
    "spot_within": " and that stay within the 5 % line of quality",
    "spot_quality": ", perplexity {percent} %",
    "spot_base_quality": ", the baseline's perplexity",
    "spot_fastest": "The fastest is {name} with {speed} tokens/s, the smallest {small} with {memory} GB.",
    "spot_beaten": "Another one is at least as good in everything and better in something than: {names}.",
    "spot_no_quality": "Quality does not count in this: not every row has a perplexity.",
    "spot_outside": "Nothing that is not beaten stays within the 5 % line of quality, so there is no sweet spot "
    "to name.",
    "spot_batch": "The highest throughput is that of {name} at batch {batch}: {speed} tokens/s in all.",
    "spot_nothing": "No cell with a KV cache has both a speed and a memory figure, so it cannot say.",
    # farm advise
    "advise_choice": "{where}choose {name}: {speed} tokens/s in {memory} GB{quality}, at {context} tokens and batch "
    "{batch}. It is the fastest of {fit} configurations within the limits, of {count} measured.",
    "advise_next": "The next one is {name}: {speed} tokens/s in {memory} GB{quality}.",
    "advise_not_measured": "Nothing was measured with a KV cache at this length and batch; there are prompts of "
    "{contexts} tokens and batches of {batches}.",
    "advise_none": "{where}nothing that was measured at {context} tokens and batch {batch} is within the limits.",
    "advise_out": "{name} is out: {reasons}.",
    "advise_memory": "it needs {memory} GB, the limit is {limit}",
    "advise_loss": "it loses {percent} % of perplexity, the limit is {limit} %",
    "advise_unknown": "its loss of perplexity was not measured",
    "within_engine": "{precision} on {engine}",
    "within_mode": "{name}, cache {mode}",
    # Caveats
    "caveat_fake": "Times of the fake engine are invented: this is a test and no measurement.",
    "caveat_suspect": "{count} of {cells} speed cells are not valid by their own verdict ({reasons}); they are drawn "
    "hollow, and their figures may not be what the configuration gives.",
    "caveat_launch": "In {count} of {cells} speed cells the host's launching of kernels takes nearly all of a token's "
    "time (launch_bound): they say how fast the engine is, not what the precision could do.",
    "caveat_power": "In {count} of {cells} speed cells the card was at the power limit it left the factory with and "
    "clocked below its highest (power_bound): another card of its kind differs by a few percent.",
    "caveat_set_aside": "In {count} of {cells} speed cells runs were set aside, {trials} in all: fixed work beside "
    "them took over {limit} times as long as at best. What counts is the host's own speed; a busy one is slower.",
    "caveat_random": "{models}: random weights. Speed and memory are those of the true model's shape; quality does not "
    "exist and is not shown.",
    "caveat_demo": "The perplexity text is the short demo text ({tokens} tokens): good for a comparison inside this "
    "run, not for one with published figures.",
    "caveat_few": "{count} speed cells have fewer than 10 timed runs: their intervals are wide or missing.",
    "caveat_cpu": "Measured on a CPU: ratios between precisions do not carry over to a GPU.",
    "caveat_failed": "{count} of {cells} cells gave no figure; each is listed below with its reason.",
    "caveat_batches": "The figures of this page show the smallest batch of each model; those of every batch lie in "
    "figures/ and benchmarks/ beside it.",
    "caveat_none": "None of the usual ones applies: every cell is ok and valid by its verdict.",
    # Sections
    "summary": "Summary",
    "more_figures": "More figures",
    "in_words": "In words",
    "failures_title": "What gave no figure, and why",
    "failures_none": "Every cell ended ok.",
    "cells_title": "All cells",
    "filter": "Filter",
    "filter_hint": "e.g. nf4 2048",
    "filter_status": "Status",
    "all": "all",
    "valid_only": "ok and valid",
    "shown": "{shown} of {cells} cells",
    "sort_hint": "Every column heading is a button that sorts.",
    "scroll_hint": "Wide content scrolls sideways inside its frame.",
    "cell": "Cell",
    "reason": "Reason",
    "key": "Key",
    "columns": "Model|Precision|Engine|Device|Cache|Context|Batch|Decode tok/s|95 % interval|TTFT ms|Prefill ms|"
    "Peak GB|"
    "PPL|PPL change %|vs baseline|Limit/measured|J/token|Status|Verdict",
    "methods_title": "Methods",
    "environment_title": "Environment",
    "environment_cells": "{cells} cells",
    "generated": "Written by farm {version} from the run's records alone; the same records give the same page.",
    # Methods
    "method_runs": "Each speed cell: {warmups} warm-up runs of the same shape, then {runs} timed runs (more, up to "
    "{max_runs}, while the interval is wide) of {new_tokens} generated tokens, greedy, on prompts of exactly the "
    "stated number of tokens.",
    "method_times": "Time to first token: from the start of the prompt's forward pass to its first token. "
    "Prefill: that "
    "forward pass. Time per output token: (end to end − time to first token) / (tokens − 1). Decode tokens/s: batch "
    "size over it.",
    "method_stats": "Shown are medians. The 95 % interval is a percentile bootstrap of the median with 2,000 "
    "resamples, "
    "of as many samples as their autocorrelation leaves; ratios are ratios of medians.",
    "method_memory": "GB are 1e9 bytes. Peak: the most the device's allocator held during the runs; on a CPU no "
    "allocator tells it, and weights plus KV cache stand in its place.",
    "method_quality": "Perplexity: {protocols}. A change is against the 16-bit row (32-bit where none exists) of the "
    "same model on the same text; above 5 % counts as a loss.",
    "method_verdict": "Verdicts: a speed cell is not valid when its 95 % interval is wider than 20 % of the median "
    "(10 % either way), when clocks were throttled, others used the device, output was short, first runs were cold, "
    "the host was slow where it is the limit, or a kernel other than the requested one ran.",
    "method_limit": "The physical limit: bytes and FLOPs that a phase must at least move and do, over the device's "
    "measured copy bandwidth and matrix rate (roofline model).",
    "method_busy": "The devices were {share} % busy: of the time of {slots}, from the first load group's start to the "
    "last one's end, {groups} groups' processes were at work.",
    "method_canary": "Non-interference: {cell} was measured alone and again while {beside} other load groups were at "
    "work on its machine. Its time per output token changed by {decode}, its prefill by {prefill} (medians, 95 % "
    "interval).",
    "method_undisturbed": "That is not surely above {limit} %, so figures measured side by side stand.",
    "method_disturbed": "That is surely above {limit} %: what was measured beside other groups is marked contended "
    "(by a launch-bound cell: what waits for the host as it does).",
    "method_no_canary": "Whether load groups at work side by side disturbed each other was not shown: {reason}.",
    "method_front": "The front: rows that no other row beats in speed, memory and (where all have it) "
    "perplexity at once.",
    # Expected beside measured
    "expected_fp16": "FP16: 40–50 tokens/s",
    "expected_int8": "INT8: 75–90 tokens/s",
    "expected_4bit": "4-bit: 110–130 tokens/s",
    "expected_no_cache": "without KV cache: below 5 tokens/s",
    "expected_ppl": "perplexity: at most 5 % worse",
    "expected_compile": "`torch.compile`: +15 %",
    "below": "below",
    "within": "as expected",
    "above": "above",
    "why_suspect": "**not valid by its own verdict ({verdict})**",
    "why_recompute": "each token is a forward over all {context} and more tokens again",
    "why_host": "the host takes {share} % of a token's time to hand out its work, so bits do not matter",
    "why_bytes": "reads at {mbu} % of the measured bandwidth; at 100 % it would be {limit} tokens/s",
    "why_unknown": "the device's limits were not measured",
    "why_agreement": "KL {kl} nats a token, same first choice in {top1} %",
}
