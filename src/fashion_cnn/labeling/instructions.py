"""What the classes of Fashion-MNIST are, for people who decide about its labels."""

FASHION_MNIST = {
    "T-shirt/top": "Upper body, short sleeves or none, closed in front, ends at the hip.",
    "Trouser": "Two legs, long or short.",
    "Pullover": "Upper body, long sleeves, closed in front, pulled over the head.",
    "Dress": "One piece from the shoulders to the thigh or further.",
    "Coat": "Upper body, long sleeves, opens in front; worn over other clothes. Jackets, too.",
    "Sandal": "A shoe whose upper part is straps, or open.",
    "Shirt": "Upper body, with a collar or buttons, of thin cloth; sleeves of any length.",
    "Sneaker": "A closed, low shoe that ends below the ankle.",
    "Bag": "A bag, a purse or a backpack.",
    "Ankle boot": "A closed shoe that covers the ankle.",
}
