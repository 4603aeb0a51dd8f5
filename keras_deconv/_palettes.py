"""Colors of classes that do not have any."""

# Okabe and Ito's colors, with a gray in place of black, which would look like a
# mask without colors. This gray differs from the others for all kinds of color
# blindness; a lighter one looks like reddish purple without green receptors.
_COLORS = (
    (90, 90, 90),  # gray
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermillion
    (204, 121, 167),  # reddish purple
)
# No shade is nearer to black or white: the share of black or white in it.
_MAX_SHADE = 0.8


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return one color per class; a class has the same one in any palette."""
    return tuple(_color(number) for number in range(num_classes))


def _color(number: int) -> tuple[int, int, int]:
    """The first eight are pure; all others are shades of them."""
    level, hue = divmod(number, len(_COLORS))
    # 0, 1/2, 1/4, 3/4, 1/8 ...: few shares are far apart.
    share = int(f"{(level + 1) // 2:05b}"[::-1], 2) / 32
    shade = share * _MAX_SHADE * (-1 if level % 2 else 1)
    target = 255 if shade > 0 else 0
    red, green, blue = (
        round(value + (target - value) * abs(shade)) for value in _COLORS[hue]
    )
    return red, green, blue
