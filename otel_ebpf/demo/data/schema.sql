-- The shop's tables, with enough in them for a home page and for reports.
CREATE TABLE products (id integer PRIMARY KEY, name text NOT NULL, category text NOT NULL, price_cents integer NOT NULL);
CREATE TABLE stock (product_id integer PRIMARY KEY REFERENCES products, units integer NOT NULL);
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session text NOT NULL,
  state text NOT NULL DEFAULT 'open',
  made timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE order_items (
  order_id bigint NOT NULL REFERENCES orders,
  product_id integer NOT NULL REFERENCES products,
  quantity integer NOT NULL
);

INSERT INTO products
SELECT n,
       (ARRAY['Oak','Walnut','Steel','Blue','Wool','Linen','Brass','Ash'])[n % 8 + 1] || ' '
         || (ARRAY['desk','chair','lamp','shelf','rug','clock'])[n % 6 + 1] || ' ' || n,
       (ARRAY['desks','chairs','lamps','shelves','rugs','clocks'])[n % 6 + 1],
       1900 + n * 37 % 40000
FROM generate_series(1, 240) n;
INSERT INTO stock SELECT id, 100 + id * 7 % 400 FROM products;
INSERT INTO orders (session, state) SELECT 'old', 'paid' FROM generate_series(1, 1000);
INSERT INTO order_items SELECT n % 1000 + 1, n * n % 240 + 1, n % 3 + 1 FROM generate_series(1, 2500) n;
ANALYZE;
