"""How the demo looks: orange peel on cream, on fig in the dark. Nothing from the network."""

import gradio as gr


def fruit_theme() -> gr.themes.Base:
    """System-independent and offline: the font comes with gradio."""
    peel = gr.themes.Color(
        *("#fff4ea", "#ffe3cc", "#ffc79a", "#ffa666", "#fb8a3c", "#ee6c1a"),
        *("#c9500c", "#a53f0c", "#823311", "#632a12", "#361408"),
    )
    fig = gr.themes.Color(
        *("#fffaf2", "#f9f0e4", "#ecdfd0", "#d8c6b8", "#a8959a", "#7d6a74"),
        *("#5f4d5a", "#493a48", "#332735", "#251b29", "#1a121e"),
    )
    theme = gr.themes.Base(
        primary_hue=peel,
        secondary_hue=peel,
        neutral_hue=fig,
        radius_size=gr.themes.sizes.radius_xxl,
        spacing_size=gr.themes.sizes.spacing_lg,
        text_size=gr.themes.sizes.text_lg,
        font=[gr.themes.LocalFont("Quicksand", weights=(400, 700)), "ui-rounded", "system-ui"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        block_border_width="0px",
        block_shadow="0 8px 30px rgb(99 42 18 / 0.08)",
        block_shadow_dark="none",
        body_text_color_subdued="*neutral_500",
        block_radius="20px",
        stat_background_fill="*primary_200",
        stat_background_fill_dark="*primary_800",
    )


LOGO = (
    '<svg viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="27" r="19" fill="#ee6c1a"/>'
    '<circle cx="24" cy="27" r="15.5" fill="#ffe3cc"/><g stroke="#ffe3cc" stroke-width="2">'
    '<circle cx="24" cy="27" r="13.5" fill="#fb8a3c" stroke="none"/>'
    '<path d="M24 13v28M10 27h28M14 17l20 20M34 17L14 37"/></g>'
    '<path d="M24 9c1-6 6-8 13-7-1 6-6 9-13 7z" fill="#4c9a4a"/></svg>'
)
HEADER = '<header class="masthead">' + LOGO + "<h1>{title}</h1></header>"

CSS = """
.gradio-container { max-width: 1040px !important; margin: 0 auto !important; }
.html-container { padding: 0 !important; }
.masthead { display: flex; align-items: center; gap: 14px; padding-top: 20px; }
.masthead svg { width: clamp(44px, 8vw, 60px); flex: none; }
.masthead h1 { font-size: clamp(27px, 6vw, 44px); line-height: 1.1; font-weight: 700; margin: 0; }
.hide-container { border-radius: 0 !important; }
#about { margin-top: -12px; }

#picture .upload-container > button {
  height: calc(100% - 28px) !important; width: calc(100% - 28px); margin: 14px;
  border: 2px dashed var(--primary-300); border-radius: 14px;
}
#picture .upload-container > button:hover { background: var(--tint); }

#answer h2 { display: block; padding: 12px 4px 20px; font-size: 40px; line-height: 1.1;
  overflow-wrap: anywhere; }
#answer h2::before { content: "Looks like"; display: block; font-size: 16px; font-weight: 400; }
#answer .empty::after { content: "Its name appears here, with the runners-up"; }
#answer .empty { color: var(--body-text-color-subdued); }
#answer .empty .icon { display: none; }
#answer .confidence-set {
  position: relative; overflow: hidden; pointer-events: none; padding: 10px 14px;
  border-radius: 12px; background: var(--tint); font-family: inherit;
}
#answer .bar { position: absolute; inset: 0 auto 0 0; height: 100%; margin: 0; border-radius: 0; }
#answer .label { position: relative; }
#answer .line { border: 0; }
#answer .confidence { font-variant-numeric: tabular-nums; }
#answer .confidence-set:nth-of-type(1) { font-weight: 700; }

#answers { gap: 12px; }
#verdict:not(:has(.unknown)) { display: none; }
#verdict .unknown { padding: 18px 20px; border-radius: 20px; }
#verdict .unknown { background: var(--block-background-fill); }
#verdict h2 { font-size: 34px; line-height: 1.1; margin: 0 0 6px; }
#answers:has(.unknown) #answer h2 { display: none; }
#answers:not(:has(.confidence-set)) #look { display: none; }

#examples .label svg { display: none; }
#examples > .gallery { display: grid; grid-template-columns: repeat(8, 1fr); gap: 12px; }
#examples .gallery-item { overflow: hidden; border-radius: 16px; }
#examples .container { width: 100%; max-width: none; aspect-ratio: 1; border: 0; }

.kinds { display: flex; flex-wrap: wrap; gap: 8px; max-height: 320px; overflow-y: auto; }
ul.kinds { padding: 0; list-style: none; }
.kinds li { padding: 4px 14px; margin: 0; border-radius: 99px; background: var(--tint); }

:root { --tint: color-mix(in srgb, var(--primary-500) 9%, transparent); }
@media (max-width: 640px) {
  #examples > .gallery { grid-template-columns: repeat(4, 1fr); }
}
"""
