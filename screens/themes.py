"""The studio's own colours: quiet greys and one accent."""

from textual.theme import Theme

STUDIO = Theme(
    name="studio",
    primary="#7fb4a2",
    secondary="#8a93a0",
    accent="#e3b66b",
    success="#7fb47f",
    warning="#e0a458",
    error="#d9706b",
    foreground="#d7dadf",
    background="#15181c",
    surface="#1a1e23",
    panel="#232930",
    variables={
        "block-cursor-background": "#2f4a44",
        "block-cursor-foreground": "#e8ece9",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#262d31",
        "footer-background": "#1a1e23",
        "footer-key-foreground": "#7fb4a2",
        "footer-description-foreground": "#a9b0ba",
        "border": "#7fb4a2",
        "border-blurred": "#3a424b",
        "input-selection-background": "#7fb4a2 35%",
    },
)
