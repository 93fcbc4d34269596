from permeation.models.layers import spread_layers


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert spread_layers("all", 1, 4) == [1, 2, 3, 4]
    assert spread_layers(15, 1, 4) == [1, 2, 3, 4]
    assert spread_layers(3, 1, 9) == [1, 5, 9]
    assert spread_layers(1, 1, 9) == [1]
    assert spread_layers(10, 0, 29)[:3] == [0, 3, 6]
    assert spread_layers(10, 0, 29)[-1] == 29
