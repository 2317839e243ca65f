"""What a hostile or careless model may write, and how little of it comes out."""

import pytest
from gateway.html.renderer import HtmlRenderer

DISALLOWED = [
    ("<script>alert(1)</script>x", "<p>x</p>"),
    ("<SCRIPT type=a>\n\nalert('</b>')\n</SCRIPT >x", "<p>x</p>"),
    ("<script src=//e/>x", "<p>x</p>"),
    ("a<style>b{}</style>c", "<p>ac</p>"),
    ('<svg><a href="https://x">y</a></svg>z', "<p>z</p>"),
    ('<iframe src="https://e">x</iframe>y', "<p>y</p>"),
    ("<img src=x onerror=alert(1)>a", "<p>a</p>"),
    ("<b onclick=\"alert(1)\" style='x'>a</b>", "<p><b>a</b></p>"),
    ('<p style="x" class=y id=z>a</p>', "<p>a</p>"),
    ("<font color=red>a</font>", "<p>a</p>"),
    ("<form><input><button>Go</button></form>", "<p>Go</p>"),
    ("<html><head><title>T</title></head><body>b</body></html>", "<p>Tb</p>"),
    ("<!DOCTYPE html>a", "<p>a</p>"),
    ('<?xml v="1"?>a', "<p>a</p>"),
    ("<!-- <b> -->a", "<p>a</p>"),
    ("<!-->a", "<p>a</p>"),
    ("a<!-- never closed", "<p>a</p>"),
    ("<![CDATA[x]]>a", "<p>a</p>"),
    ('<a href="javascript:alert(1)">a</a>', "<p>a</p>"),
    ('<a href="JaVa&#x09;ScRiPt&colon;alert(1)">a</a>', "<p>a</p>"),
    ('<a href=" java\nscript:alert(1)">a</a>', "<p>a</p>"),
    ('<a href="data:text/html,x">a</a>', "<p>a</p>"),
    ('<a href="//e.org">a</a>', "<p>a</p>"),
    ('<a href="/relative">a</a>', "<p>a</p>"),
    ("<a href>a</a>", "<p>a</p>"),
    ("<a name=x>a</a>", "<p>a</p>"),
    (
        '<a href="https://e.org" href="javascript:x" target=_blank onclick=x>a</a>',
        '<p><a href="https://e.org" rel="noopener noreferrer nofollow">a</a></p>',
    ),
    (
        "<a href=https://e.org/?a=1&b=2>a</a>",
        '<p><a href="https://e.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">a</a></p>',
    ),
    (
        "<a href='https://e.org/\"><script>'>a</a>",
        '<p><a href="https://e.org/%22%3E%3Cscript%3E" rel="noopener noreferrer nofollow">a</a></p>',
    ),
    ('<a href="HTTPS://e.org">a</a>', '<p><a href="HTTPS://e.org" rel="noopener noreferrer nofollow">a</a></p>'),
    (
        '<a href="ht\ntps://e.org/a b">a</a>',
        '<p><a href="https://e.org/ab" rel="noopener noreferrer nofollow">a</a></p>',
    ),
    ('<a href="https://user@evil.org">a</a>', "<p>a</p>"),
    ('<a href="https://good.org\\@evil.org">a</a>', "<p>a</p>"),
    ('<a href="http:evil">a</a>', "<p>a</p>"),
    ('<a href="mailto:a@b.c">a</a>', '<p><a href="mailto:a@b.c" rel="noopener noreferrer nofollow">a</a></p>'),
    ('<a title="href=https://x">a</a>', "<p>a</p>"),
    ("[a](javascript:alert(1))", "<p>a</p>"),
    ("[a](JAVASCRIPT:alert(1))", "<p>a</p>"),
    ("[a](java&#115;cript:x)", "<p>a</p>"),
    ("[a](data:text/html;base64,x)", "<p>a</p>"),
    ("[a](vbscript:x)", "<p>a</p>"),
    ("[a](/etc)", "<p>a</p>"),
    (
        '[a](https://e.org/"onclick="x)',
        '<p><a href="https://e.org/%22onclick=%22x" rel="noopener noreferrer nofollow">a</a></p>',
    ),
    ("[a](<https://e.org/a b>)", '<p><a href="https://e.org/ab" rel="noopener noreferrer nofollow">a</a></p>'),
    ("[a](https://e.org/<script>)", "<p>[a](https://e.org/</p>"),
    ("[<script>x</script>](https://e.org)", "<p>[](https://e.org)</p>"),
    ("[a](https://e.org/?x=&quot;)", '<p><a href="https://e.org/?x=%22" rel="noopener noreferrer nofollow">a</a></p>'),
    ("![x](javascript:alert(1))", "<p>x</p>"),
    ("<javascript:alert(1)>", ""),
    ('<https://e.org/"onclick=x>', '<p>&lt;https://e.org/"onclick=x&gt;</p>'),
    (
        '<a href="https://a.b">x<a href="https://c.d">y</a>',
        '<p><a href="https://a.b" rel="noopener noreferrer nofollow">x</a>'
        '<a href="https://c.d" rel="noopener noreferrer nofollow">y</a></p>',
    ),
    (
        '<a href="https://a.b">[x](https://c.d)</a>',
        '<p><a href="https://a.b" rel="noopener noreferrer nofollow">x</a></p>',
    ),
    ("a\x00b\x1bc\x7fd\x85e", "<p>a�b�c�d�e</p>"),
    ("a\ud800b", "<p>a�b</p>"),
    ("&#0;&#x1b;&#xd800;&#1114112;", "<p>����</p>"),
    ("<scr<script>x</script>ipt>alert(1)</script>", "<p>&lt;script&gt;alert(1)</p>"),
    ("<<b>x", "<p>&lt;<b>x</b></p>"),
    ("<b", "<p>&lt;b</p>"),
    ('<b x="y>z', '<p>&lt;b x="y&gt;z</p>'),
    ("</ b>", "<p>&lt;/ b&gt;</p>"),
    ("<b\n\nc>", "<p>&lt;b</p><p>c&gt;</p>"),
    ("<math><mi>x</mi></math>y", "<p>y</p>"),
    ("<textarea><b>x</textarea>", "<p><b>x</b></p>"),
    ('<a href="https://[::1]/">x</a>', "<p>x</p>"),
    ('<a href="https://xn--e1awd7f.com/">x</a>', "<p>x</p>"),
    ('<a href="https://\u0435xample.org/">x</a>', "<p>x</p>"),
    (
        '<a href="http://127.0.0.1:8000/x">x</a>',
        '<p><a href="http://127.0.0.1:8000/x" rel="noopener noreferrer nofollow">x</a></p>',
    ),
    ('<a href="http://1.2.3.999/">x</a>', "<p>x</p>"),
    ('<a href="http://0x7f.1">x</a>', "<p>x</p>"),
    ('<a href="https://e.org:99999/">x</a>', "<p>x</p>"),
    ('<a href="https://">x</a>', "<p>x</p>"),
    ("```\n<script>\n```", "<pre><code>&lt;script&gt;\n</code></pre>"),
    ("`<script>`", "<p><code>&lt;script&gt;</code></p>"),
    ("&lt;script&gt;", "<p>&lt;script&gt;</p>"),
    ("<ol start=5><li>a</ol>", "<ol><li>a</li></ol>"),
    ("<table><script>x</script><tr><td>a</table>", "<table><tbody><tr><td>a</td></tr></tbody></table>"),
    ("<ul><ul>x", "<ul><li><ul><li>x</li></ul></li></ul>"),
    ("<x:y>a</x:y>", "<p>a</p>"),
    ('<a/href="https://e.org">x</a>', '<p><a href="https://e.org" rel="noopener noreferrer nofollow">x</a></p>'),
    ('<a href="https://e.org', '<p>&lt;a href="https://e.org</p>'),
    ("<template><b>x</b></template>y", "<p>y</p>"),
]


@pytest.mark.parametrize(("raw", "html"), DISALLOWED)
def test_markup_that_is_not_allowed_comes_out_harmless(raw: str, html: str) -> None:
    renderer = HtmlRenderer()
    assert renderer.feed(raw) + renderer.finish() == html


@pytest.mark.parametrize(("raw", "html"), DISALLOWED)
def test_markup_that_is_not_allowed_comes_out_harmless_a_character_at_a_time(raw: str, html: str) -> None:
    renderer = HtmlRenderer()
    assert "".join([renderer.feed(character) for character in raw]) + renderer.finish() == html
