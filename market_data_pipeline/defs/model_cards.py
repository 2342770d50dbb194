"""The model card of a day: what a person sees of its models in the UI, and the numbers that it plots over the days."""

import dagster as dg

from market_data_pipeline.lake.signals import ModelCard
from market_data_pipeline.transforms.scores import Score

_SHOWN = 50


def model_card(card: ModelCard) -> dict[str, object]:
    """The metadata of a day of signals; what is not known has no entry."""
    notes: dict[str, object] = {
        "models_trained": card.models,
        "instruments_without_a_model": len(card.without),
        "instruments_without_all_training_days": card.short_windows,
        "instruments_lacking_fundamental_features_today": card.lacking_today,
        "instruments_lacking_fundamental_features_in_training": card.lacking_in_training,
        "inputs_missing_all_day": len(card.missing_inputs),
    }
    if card.missing_inputs:
        inputs = dict(sorted(card.missing_inputs.items())[:_SHOWN])
        notes["instruments_by_input_missing_all_day"] = dg.MetadataValue.json(inputs)
    if card.without:
        first = dict(sorted(card.without.items())[:_SHOWN])
        notes["without_a_model_because"] = dg.MetadataValue.json(first)
    if card.models:
        notes |= {f"candles_{name}": card.positions[at] for name, at in (("short", -1), ("flat", 0), ("long", 1))}
    if card.turnover is not None:
        notes["turnover"] = card.turnover
    if card.score is not None:
        notes |= _score_notes(card.score)
        notes["model_card"] = dg.MetadataValue.md(_page(card, card.score))
    return notes


def _score_notes(score: Score) -> dict[str, object]:
    low, high = score.interval
    return {
        "scored_candles": score.rows,
        "independent_labels": score.independent,
        "hit_rate": score.hit_rate,
        "hit_rate_low": low,
        "hit_rate_high": high,
        "base_hit_rate": score.base_hit_rate,
        "brier": score.brier,
        "base_brier": score.base_brier,
    }


def _page(card: ModelCard, score: Score) -> str:
    low, high = score.interval
    lines = [
        "Out of sample, on the last days of the training that models without them were asked about, "
        f"{len(card.scores)} of {card.models} models could be scored: hit rate {score.hit_rate:.1%} (95 %: {low:.1%} "
        f"to {high:.1%}) against {score.base_hit_rate:.1%} of the base rate; Brier score {score.brier:.4f} against "
        f"{score.base_brier:.4f}. No promise of profit: costs, slippage and what is not a label are left out.",
        "",
        *_missing_lines(card),
        "| probability | candles | mean forecast | went up |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each.low:.2f} to {each.high:.2f} | {each.rows} | {each.forecast / each.rows:.3f} "
            f"| {each.ups / each.rows:.3f} |"
            for each in score.bins
            if each.rows
        ),
    ]
    return "\n".join(lines)


def _missing_lines(card: ModelCard) -> list[str]:
    if not (card.lacking_today or card.lacking_in_training or card.missing_inputs):
        return []
    names = ", ".join(sorted(card.missing_inputs)[:_SHOWN]) or "none"
    return [
        f"What is missing counts as the training's mean. Instruments without fundamental features on the day though "
        f"their training had them: {card.lacking_today}; without them for a part of the training or all of it, though "
        f"not on other days: {card.lacking_in_training}. Inputs that are null all through the day: {names}.",
        "",
    ]
