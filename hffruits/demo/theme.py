"""The theme and CSS of the demo: orange peel on cream, on fig in the dark. Nothing is fetched."""

import gradio as gr

# Texts of gradio's own, by its keys; visitors whose browser speaks another language keep gradio's.
WORDS = {
    "upload_text.drop_file": "Drop photos or a zip here",
    "upload_text.drop_gallery": "Drop photos here",
    "upload_text.click_to_upload": "Click to choose some",
}


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
        body_text_color_subdued_dark="*neutral_400",
        block_radius="20px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_300",
        button_primary_background_fill_hover_dark="*primary_200",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_900",
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
.gradio-container, .gradio-container > .main { width: 100%; }
.html-container { padding: 0 !important; }
.masthead { display: flex; align-items: center; gap: 14px; padding-top: 20px; }
.masthead svg { width: clamp(44px, 8vw, 60px); flex: none; }
.masthead h1 { font-size: clamp(27px, 6vw, 44px); line-height: 1.1; font-weight: 700; margin: 0; }
.hide-container { border-radius: 0 !important; }
#about { margin-top: -12px; }

#tabs { gap: 20px; }
#tabs .tab-container { height: auto; gap: 6px; padding: 6px; border-radius: 99px; }
#tabs .tab-container { background: var(--tint); }
#tabs .tab-container::after, #tabs .tab-container button::after { display: none; }
#tabs .tab-wrapper { height: auto; padding: 0; }
#tabs .tab-container button { min-height: 44px; padding: 10px 22px; border-radius: 99px; }
#tabs .tab-container button { font-weight: 700; }
#tabs .tab-container button { color: var(--body-text-color); }
#tabs .tab-container button.selected { background: var(--chosen); color: var(--on-chosen); }
#tabs .tabitem { padding: 0; border: 0; }

button:focus-visible, input:focus-visible, textarea:focus-visible, a:focus-visible,
[tabindex]:focus-visible, summary:focus-visible, label:focus-within:has(input[type=file]) {
  outline: 3px solid var(--ring) !important; outline-offset: 2px;
}

.photo .upload-container > button {
  height: calc(100% - 28px) !important; width: calc(100% - 28px); margin: 14px;
  border: 2px dashed var(--primary-300); border-radius: 14px;
}
.drop button[aria-dropeffect] {
  width: calc(100% - 28px); margin: 14px; height: calc(100% - 28px) !important;
  border: 2px dashed var(--primary-300); border-radius: 14px;
}
#photos .upload-wrapper { height: calc(100% - 44px); padding-top: 16px; }
.drop button[aria-dropeffect]:hover { background: var(--tint); }
.photo .upload-container > button:hover { background: var(--tint); }

.prediction h2 { display: block; padding: 12px 4px 20px; font-size: 40px; line-height: 1.1;
  overflow-wrap: anywhere; }
.prediction h2::before { content: "Looks like"; display: block; font-size: 16px; font-weight: 400; }
.prediction .empty::after { content: "Its name appears here, with the runners-up"; }
.prediction .empty { padding: 0 16px; text-align: center; color: var(--body-text-color-subdued); }
.prediction .empty .icon { display: none; }
.prediction .confidence-set {
  position: relative; overflow: hidden; pointer-events: none; padding: 10px 14px;
  border-radius: 12px; background: var(--tint); font-family: inherit;
}
.prediction .bar {
  position: absolute; inset: 0 auto 0 0; height: 100%; margin: 0; border-radius: 0;
}
.prediction .label { position: relative; }
.prediction .line { border: 0; }
.prediction .confidence { font-variant-numeric: tabular-nums; }
.prediction .confidence-set:nth-of-type(1) { font-weight: 700; }

.predictions { gap: 12px; }
.verdict:not(:has(.unknown, .problem)) { display: none; }
.problem { margin: 0; padding: 10px 16px; border-radius: 14px; font-weight: 700; }
.problem { background: var(--bad); color: var(--on-bad); }
.learned, .took { margin: 0; }
.took { font-size: 15px; color: var(--body-text-color-subdued); padding: 0 4px; }
#said:not(:has(p)) { display: none; }
.verdict .unknown { padding: 18px 20px; border-radius: 20px; }
.verdict .unknown { background: var(--block-background-fill); }
.verdict h2 { font-size: 34px; line-height: 1.1; margin: 0 0 6px; }
.predictions:has(.unknown) .prediction h2 { display: none; }
.predictions:not(:has(.confidence-set)) #explain { display: none; }
.predictions:not(:has(.confidence-set)) #feedback { display: none; }

#feedback { gap: 8px; padding: 16px 20px; border-radius: 20px; }
#feedback { background: var(--block-background-fill); box-shadow: var(--block-shadow); }
#feedback .block, #feedback .form { box-shadow: none !important; border: 0; }
#feedback .block { padding: 0 4px; overflow: visible !important; }
#say { align-items: center; gap: 10px; flex-wrap: nowrap; }
#say #asked { flex: 1 1 0; min-width: 0; }
#say button { flex: 0 0 auto; min-width: 84px; }
#asked p { font-weight: 700; margin: 0; }
#send { height: 48px; font-size: 16px; }
.hint, #where { font-size: 15px; color: var(--body-text-color-subdued); }
.hint p, #where p { font-size: 15px; margin: 0; color: var(--body-text-color-subdued); }
#correct { align-items: end; }

#examples h2 { font-size: 16px; font-weight: 700; margin: 8px 0 10px; }
#examples h2 + div { display: grid; gap: 12px; }
#examples h2 + div { grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)); }
#examples button { display: flex; flex-direction: column; gap: 6px; min-width: 0; }
#examples button { max-width: 150px; border-radius: 16px; cursor: pointer; }
#examples img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 16px; margin: 0; }
#examples button:hover img { filter: brightness(1.06); }
#examples span { width: 100%; font-size: 13px; line-height: 1.2; overflow-wrap: anywhere; }

#summary { padding: 18px 20px; border-radius: 20px !important; box-shadow: var(--block-shadow); }
#summary { background: var(--block-background-fill); }
#summary p { font-size: 20px; margin: 0; }
#results, #sending, #lesson, #trial { gap: 14px; }
#table:not(:has(tr)) { display: none; }
#table { border-radius: 20px !important; background: var(--block-background-fill); }
#table { max-height: 460px; overflow: auto !important; padding: 8px 20px; }
#table { box-shadow: var(--block-shadow); }
#table table { width: 100%; border-collapse: collapse; margin: 0; }
#table td, #table th { padding: 10px 12px 10px 0; text-align: left; vertical-align: top; }
#table td, #table th { font-size: 16px; border: 0; }
#table tbody tr { border-top: 1px solid var(--border-color-primary); }
#table td:first-child { min-width: 180px; overflow-wrap: anywhere; }
#table td:last-child { color: var(--wrong); }
#files .filename { display: block; white-space: normal; overflow-wrap: anywhere; }
#files .filename * { display: inline; white-space: normal; }
#gallery .caption-label { white-space: normal; overflow: visible; }
#gallery .grid-wrap { max-height: none; min-height: 0; height: auto; padding: 14px; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
#photos .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); padding: 36px 8px 8px; }
#gallery .caption-label { left: 0; right: 0; bottom: 0; max-width: none; border-radius: 0; }
#gallery .caption-label { border: 0; text-align: center; }
.step { display: flex; align-items: center; gap: 12px; font-size: 24px; margin: 4px 0; }
.step b { display: grid; place-items: center; width: 36px; height: 36px; border-radius: 99px;
  background: var(--chosen); color: var(--on-chosen); font-size: 18px; }

#keep { padding: 20px; border-radius: 20px; gap: 14px; }
#keep { background: var(--block-background-fill); box-shadow: var(--block-shadow); }
#taught p { margin: 0 0 8px; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
dl.tiles { margin: 0; }
.tiles > div { display: flex; flex-direction: column-reverse; padding: 18px 20px; }
.tiles > div { border-radius: 20px; background: var(--block-background-fill); }
.tiles dd { margin: 0; font-size: 32px; font-weight: 700; line-height: 1.1; }
.tiles dt { color: var(--body-text-color-subdued); }
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 14px; }
.classes figure { margin: 0; }
.classes img, .classes .letter { display: grid; place-items: center; width: 100%; aspect-ratio: 1;
  object-fit: cover; border-radius: 16px; background: var(--tint); font-size: 40px; }
.classes figcaption { font-size: 14px; text-align: center; overflow-wrap: anywhere; padding: 4px; }
#report:not(:has(iframe)) { display: none; }
#report iframe { width: 100%; height: 80vh; border: 0; border-radius: 20px; }
#report iframe { background: var(--block-background-fill); }
#card table { display: block; overflow-x: auto; border: 0; }
#card :is(td, th) { white-space: nowrap; }

.kinds { display: flex; flex-wrap: wrap; gap: 8px; max-height: 320px; overflow-y: auto; }
ul.kinds { padding: 0; list-style: none; }
.kinds li { padding: 4px 14px; margin: 0; border-radius: 99px; background: var(--tint); }

:root { --tint: color-mix(in srgb, var(--primary-500) 9%, transparent); }
:root { --chosen: #a53f0c; --on-chosen: #fff; --ring: #a53f0c; }
:root { --bad: #fde4e1; --on-bad: #8c1d18; }
.dark { --chosen: #ffa666; --on-chosen: #251b29; --ring: #ffa666; }
.dark { --bad: #5c1f1c; --on-bad: #ffdad5; }
:root { --wrong: #a3271f; }
.dark { --wrong: #ffb4ab; }
@media (max-width: 640px) {
  #examples h2 + div { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; }
  #examples span { font-size: 12px; }
  #tabs .tab-container { gap: 2px; padding: 4px; }
  #tabs .tab-container button { flex: 1 1 auto; justify-content: center; }
  #tabs .tab-container button { padding: 10px 8px; font-size: 16px; text-align: center; }
  #seen { display: contents; }
  #seen > * { min-width: 100%; }
  #predictions { order: 1; }
  #explained { order: 2; }
  .classes { grid-template-columns: repeat(3, 1fr); }
  #gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  #photos .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  #table { max-height: none; }
  #table thead { display: none; }
  #table tr { display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 12px 0; }
  #table td { padding: 0; }
  #table td:first-child, #table td:last-child { flex-basis: 100%; }
  #table td:nth-child(2) { font-weight: 700; }
  #table td:empty { display: none; }
  #table td:nth-child(4)::before { content: "known: "; }
}
"""
