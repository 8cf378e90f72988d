import dataclasses
import inspect
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_cnn import recipes
from fashion_cnn.recipe import Recipe, recipe_from_dict, with_settings
from fashion_cnn.recipes import RECIPES, command_for, find_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_round_trip(recipe, tmp_path):
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert find_recipe(str(tmp_path / "recipe.json")) == recipe


def test_settings_reach_fields_and_options():
    settings = {"batch_norm": "true", "dropout": "0.3", "augment": "flip,shift", "epochs": "3"}
    recipe = with_settings(RECIPES["textbook"], settings)
    assert recipe.options == {"batch_norm": True, "dropout": 0.3}
    assert (recipe.augment, recipe.epochs) == (("flip", "shift"), 3)
    assert RECIPES["textbook"].options == {}


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("depth", "3", "unknown; expected one of .*dropout"),
        ("epochs", "0", "got 0; expected a value greater than or equal to 1"),
        ("epochs", "-1", "expected a value greater than or equal to 1"),
        ("epochs", "1000000000", "expected a value less than or equal to 100000"),
        ("epochs", "ten", "expected a whole number"),
        ("batch_size", "0", "greater than or equal to 1"),
        ("learning_rate", "nan", "expected a finite number"),
        ("learning_rate", "inf", "expected a finite number"),
        ("learning_rate", "-0.1", "expected a value greater than 0"),
        ("learning_rate", "abc", "expected a number"),
        ("batch_norm", "yes", "expected true or false"),
        ("augment", "flop", "expected flip, alternate_flip, shift"),
        ("augment", "flip,alternate_flip", "expected one of them at most"),
        ("optimizer", "sgdd", "expected 'adam', 'sgd' or 'muon'"),
        ("schedule", "step", "expected 'constant', 'triangle' or 'cosine'"),
        ("precision", "float16", "expected 'float32' or 'bfloat16'"),
        ("warmup", "1.5", "expected a value less than 1"),
        ("validation", "train", "expected 'validation', 'test' or 'none'"),
        ("seed", "-1", "expected a value greater than or equal to 0"),
        ("model", "resnet", "expected one of textbook"),
    ],
)
def test_bad_settings_are_refused(key, text, message):
    with pytest.raises(ValueError, match=message):
        with_settings(RECIPES["textbook"], {key: text})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least a name"),
        ({"name": "x", "depth": 3}, "unknown key 'depth'"),
        ({"name": "x", "epochs": "3"}, "expected a valid integer"),
        ({"name": "x", "epochs": True}, "expected a valid integer"),
        ({"name": "x", "options": {"dropout": "much"}}, "expected a number"),
        ({"name": "x", "options": {"dropout": float("nan")}}, "expected a number"),
        ({"name": "../x"}, "expected letters"),
        ({"name": "x", "__dataclass_self__": 1}, "unknown key '__dataclass_self__'"),
    ],
)
def test_bad_files_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict(values)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"name": 3}', "null"])
def test_a_broken_recipe_file_is_named(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.json: not a recipe"):
        find_recipe(str(path))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"did you mean textbook\? expected textbook, "):
        find_recipe("textbok")
    with pytest.raises(ValueError, match="got 'xyzzy'; expected textbook, textbook-padded"):
        find_recipe("xyzzy")
    with pytest.raises(ValueError, match="no such file"):
        find_recipe("nowhere.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
BASE = json.loads(RECIPES["textbook"].to_json())
values = json_values | st.integers(10**300, 10**400) | st.lists(st.sampled_from(["flip", "shift"]))


@given(st.dictionaries(st.sampled_from(list(BASE)), values, max_size=3))
def test_any_json_is_a_recipe_or_refused(changes):
    try:
        recipe = recipe_from_dict({**BASE, **changes})
    except ValueError:
        return
    assert isinstance(recipe, Recipe)
    assert recipe_from_dict(json.loads(recipe.to_json())) == recipe


@pytest.mark.parametrize("settings", [{}, {"seed": "3", "epochs": "2"}, {"augment": "flip,erase"}])
@pytest.mark.parametrize("name", RECIPES)
def test_the_command_makes_the_recipe_again(name, settings):
    recipe = with_settings(RECIPES[name], settings | {"flip_average": "true"})
    about = {"data": {"source": "fashion-mnist"}}
    _, verb, base, *words = shlex.split(command_for(recipe, about))
    given = [word for word in words if word != "--set"]
    if "--seed" in given:
        at = given.index("--seed")
        given[at : at + 2] = [f"seed={given[at + 1]}"]
    assert verb == "train"
    assert with_settings(RECIPES[base], dict(pair.split("=", 1) for pair in given)) == recipe


def test_the_command_of_what_has_no_name():
    about = {"data": {"source": "my photos"}}
    other = dataclasses.replace(RECIPES["textbook"], name="mine")
    assert command_for(other, about) == "fashion-cnn train recipe.json --data 'my photos'"
    said = command_for(RECIPES["quick"], about)  # or it would be fitted to few images
    assert said == "fashion-cnn train quick --set batch_size=128 --data 'my photos'"
    said = command_for(RECIPES["sprint"], {"data": {"source": "fashion-mnist"}, "processes": 2})
    assert said == "fashion-cnn train sprint --processes 2"
    said = command_for(RECIPES["quick"], {"data": about["data"] | {"groups": "([a-z]+)_"}})
    assert said.endswith("--data 'my photos' --groups '([a-z]+)_'")
    assert command_for(RECIPES["textbook"], about | {"own_model": True}).startswith("# made from")


def test_recipes_state_what_was_measured():
    source = inspect.getsource(recipes)
    for name, figures in recipes.measured()["recipes"].items():
        accuracy = f"{figures['test_accuracy']:.2f} ± {figures['test_accuracy_sd']:.2f} %"
        seconds = figures["seconds"]
        time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        promise = f"# fashion-cnn train {name}: {accuracy}, n = {figures['n']}, {time}\n"
        assert promise in source
